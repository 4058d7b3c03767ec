"""What both paths agree on and nothing else: settings, clock, wire, topics, policy, gate, store, templates."""
