-- Take the devices whose user does not exist out of the staged ones; answers their places in the chunk.
DELETE FROM staged_devices AS staged
 WHERE NOT EXISTS (SELECT FROM users WHERE users.id = staged.user_id)
RETURNING staged.place
