#!lua flags=allow-oom
-- Ask to send to a provider: what came back since the last time goes in, how many may be sent now comes out.
--
-- KEYS[1]  provider:{shard}:name  hash (stream/delivery/turnstile/redis.py):
--   t               this turnstile's own time in seconds, since its hash was made; all times below are of it
--   real, virtual   Redis TIME and the engine's clock when t was told last
--   state           closed (sends flow), open (nothing is sent) or half_open (probes only)
--   turn            goes up with every change of state: an answer counts only where it was asked for
--   since, why      when the state was entered; why it was opened
--   until, opens    open until then; how often in a row it was opened
--   w0 … w9         "second turn good bad": answers of the last ten seconds, by second modulo ten
--   probes, probed  half open: probes without an answer, the last one's time
--   good, bad       half open: answers
--   tokens, filled  the bucket, and when it was filled last
--   used, ramp      the last grant's time; when the rate began to grow
--   hungry          when the urgent lane last got less than it asked for
--   forced, by, reason, at   open or closed by a command (force.lua), whatever comes back
-- ARGV  the engine's clock or '' (then Redis TIME alone); sends a second, 0 for any number; 1 for the urgent lane;
--       sends asked for; a random number of [0, 1); seconds after which a probe is lost;
--       then turn, good, bad and seconds to block for each lot of answers
-- Answers sends granted, state, turn, probes left, seconds until it is worth asking again (text).

local WINDOW, LEAST, PROBES = 10, 20, 10
local FIRST_OPEN, LONGEST_OPEN = 5, 60
local RAMP, COLDEST = 60, 0.01
-- Of a second's worth, what is kept for the urgent lane: always, and while it has just had to wait.
local RESERVE, CROWDED_RESERVE, CROWDED = 0.2, 0.8, 2

local h = {}
local flat = redis.call('HGETALL', KEYS[1])
for i = 1, #flat, 2 do h[flat[i]] = flat[i + 1] end
local changes = {}
local function put(name, value)
  if type(value) == 'number' then value = string.format('%.17g', value) end
  h[name], changes[name] = value, value
end
local function num(name) return tonumber(h[name]) or 0 end

-- Time goes on by whichever clock went further: one that is turned is followed, one that stands still (a test's, the
-- demo's) holds nobody up for ever, and one that is set back does nothing.
local time = redis.call('TIME')
local real, virtual = time[1] + time[2] / 1e6, tonumber(ARGV[1])
local step = h.real and math.max(0, real - num('real')) or 0
if virtual then
  if h.virtual then step = math.max(step, virtual - num('virtual')) end
  put('virtual', virtual)
end
local t = num('t') + step
put('t', t)
put('real', real)

local rate, urgent, n = tonumber(ARGV[2]), ARGV[3] == '1', tonumber(ARGV[4])
local random, lost = tonumber(ARGV[5]), tonumber(ARGV[6])
if not h.state then put('state', 'closed') end

local function become(state, why)
  put('state', state)
  put('turn', num('turn') + 1)
  put('since', t)
  put('why', why)
end

local function trip(good, bad)
  -- After a minute of closed the past is forgotten; until then a provider that fails again rests longer.
  local opens = num('opens')
  if h.state == 'closed' and t - num('since') >= LONGEST_OPEN then opens = 0 end
  become('open', bad .. ' of ' .. (good + bad) .. ' answers were bad')
  put('opens', opens + 1)
  put('until', t + random * math.min(LONGEST_OPEN, FIRST_OPEN * 2 ^ opens))
end

local function window(second)
  local name = 'w' .. second % WINDOW
  local of, turn, good, bad = string.match(h[name] or '', '^(%d+) (%d+) (%d+) (%d+)$')
  if tonumber(of) ~= second or tonumber(turn) ~= num('turn') then return name, 0, 0 end
  return name, tonumber(good), tonumber(bad)
end

if h.state == 'open' and t >= num('until') then
  become('half_open', h.why)
  put('probes', 0)
  put('good', 0)
  put('bad', 0)
end

if not h.forced then
  for i = 7, #ARGV, 4 do
    local good, bad, block = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
    if tonumber(ARGV[i]) == num('turn') then
      if h.state == 'closed' then
        local second = math.floor(t)
        local name, goods, bads = window(second)
        put(name, string.format('%d %d %d %d', second, num('turn'), goods + good, bads + bad))
        good, bad = 0, 0
        for s = second - WINDOW + 1, second do
          local _, some_good, some_bad = window(s)
          good, bad = good + some_good, bad + some_bad
        end
        if good + bad >= LEAST and 2 * bad >= good + bad then trip(good, bad) end
      elseif h.state == 'half_open' then
        put('probes', math.max(0, num('probes') - good - bad))
        put('good', num('good') + good)
        put('bad', num('bad') + bad)
        if 2 * num('bad') >= PROBES then
          trip(num('good'), num('bad'))
        elseif num('good') >= PROBES then
          become('closed', '')
          put('ramp', t)
        end
      end
    end
    -- The provider said so itself, whenever that was asked for.
    if block > 0 then
      if h.state ~= 'open' then
        become('open', 'the provider asked to wait')
        put('until', t + block)
      else
        put('until', math.max(num('until'), t + block))
      end
    end
  end
end

local granted, room, wait = 0, 0, 0
local state = h.forced or h.state
if state == 'open' then
  wait = h.forced and 1 or num('until') - t
elseif state == 'half_open' then
  if num('probes') > 0 and t - num('probed') >= lost then put('probes', 0) end
  room = PROBES - num('probes')
  granted = math.min(n, room)
  room = room - granted
  wait = granted < n and 1 or 0
  if granted > 0 then
    put('probes', num('probes') + granted)
    put('probed', t)
  end
elseif rate == 0 then
  granted = n
else
  if n > 0 and (not h.used or t - num('used') >= RAMP) then put('ramp', t) end
  local warmth = math.min(1, COLDEST + (1 - COLDEST) * (t - num('ramp')) / RAMP)
  local now = math.max(rate * warmth, math.min(rate, 1))
  -- A second's worth, and enough for one of any lane besides the reserve.
  local size = math.max(now, 2)
  local tokens = h.tokens and math.min(size, num('tokens') + now * (t - num('filled'))) or size
  local crowded = h.hungry and t - num('hungry') < CROWDED
  local reserve = urgent and 0 or math.min(size - 1, (crowded and CROWDED_RESERVE or RESERVE) * size)
  granted = math.max(0, math.min(n, math.floor(tokens - reserve + 1e-9)))
  put('tokens', tokens - granted)
  put('filled', t)
  if granted < n then
    if urgent then put('hungry', t) end
    local more = math.min(n - granted, math.floor(size - reserve))
    wait = math.max(0, (more + reserve - (tokens - granted)) / now)
  end
end
if granted > 0 then put('used', t) end

local words = {}
for name, value in pairs(changes) do
  words[#words + 1] = name
  words[#words + 1] = value
end
redis.call('HSET', KEYS[1], unpack(words))
-- What nobody asks about for a day is forgotten, unless somebody has forced it.
if not h.forced then redis.call('EXPIRE', KEYS[1], 86400) end
return {granted, state, num('turn'), room, string.format('%.6f', wait)}
