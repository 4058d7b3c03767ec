-- Put before every script that asks the gate: where its data is not vouched for, it does not answer.
--
-- KEYS[1]  epoch:{shard}  string: "<guard of the server it was opened on> <epoch> <rules>"
-- ARGV[1]  guard of this server: its run id and what it was sent by a primary (shared/keyspace/node.py), or "" where
--          any server's data is trusted (SURNIA_GATE_DURABLE)
--
-- Without its epoch a shard's data is gone. Opened on another server than this one: after a restart or a failover the
-- last writes may be missing. Either way it is closed until it is rebuilt.

local function closed(key, epoch)
  if not epoch then return redis.error_reply('CLOSED ' .. key .. ' is missing: the data of its shard is lost') end
  if ARGV[1] ~= '' and string.sub(epoch, 1, #ARGV[1] + 1) ~= ARGV[1] .. ' ' then
    return redis.error_reply('CLOSED ' .. key .. ' was written on another server: this one restarted or took over')
  end
end

local epoch = redis.call('GET', KEYS[1])
local why = closed(KEYS[1], epoch)
if why then return why end

-- Whether a rule "|path:kind:campaign:*|" (* is any) covers these; rules of one provider are delivery's to judge.
local function paused(path, kind, campaign)
  if not string.find(epoch, '|', 1, true) then return false end
  for _, p in ipairs({path, '*'}) do
    for _, k in ipairs({kind, '*'}) do
      for _, c in ipairs({campaign, '*'}) do
        if string.find(epoch, '|' .. p .. ':' .. k .. ':' .. c .. ':*|', 1, true) then return true end
      end
    end
  end
  return false
end

local band, rshift, lshift = bit.band, bit.rshift, bit.lshift

-- Reminders that a value (shared/gate/value.py) counts for its date.
local function count(value)
  local n = band(rshift(value, 13), 7)
  local states = rshift(value, 1)
  for _ = 1, 4 do
    local state = band(states, 7)
    if state > 0 and state < 5 then n = n + 1 end
    states = rshift(states, 3)
  end
  return n
end
