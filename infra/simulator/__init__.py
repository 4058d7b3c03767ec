"""APNs, FCM v1 and Google's token address on one TLS port, with faults to inject and a witness of what was shown."""
