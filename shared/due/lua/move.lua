-- Put before the scripts that apply activity to the due index of one shard.
--
-- KEYS[first..first+2]  due:{shard}:practice, :streak_saver, :abandoned_lesson  sorted sets: user id -> due, unix seconds
-- ARGV from `at`        (user id, practice due, streak saver due, started before) * lessons   of completed ones
--                       (an empty due leaves that set as it is)
--                       (due, user id) * timers                                               of started ones
--
-- GT: an event that comes late or twice never moves a reminder to an earlier time.
-- A completed lesson takes away the abandoned-lesson timer of lessons started before it, not of later ones.

local function move(first, at, lessons, timers)
  if lessons > 0 then
    local practice, p, streak, s, users = {}, 0, {}, 0, {}
    for i = 1, lessons do
      local word = at + 4 * (i - 1)
      local id, due, evening = ARGV[word], ARGV[word + 1], ARGV[word + 2]
      if due ~= '' then
        practice[p + 1], practice[p + 2] = due, id
        p = p + 2
      end
      if evening ~= '' then
        streak[s + 1], streak[s + 2] = evening, id
        s = s + 2
      end
      users[i] = id
    end
    if p > 0 then redis.call('ZADD', KEYS[first], 'GT', unpack(practice)) end
    if s > 0 then redis.call('ZADD', KEYS[first + 1], 'GT', unpack(streak)) end
    local known, gone = redis.call('ZMSCORE', KEYS[first + 2], unpack(users)), {}
    for i = 1, lessons do
      if known[i] and tonumber(known[i]) <= tonumber(ARGV[at + 4 * i - 1]) then gone[#gone + 1] = users[i] end
    end
    if #gone > 0 then redis.call('ZREM', KEYS[first + 2], unpack(gone)) end
    at = at + 4 * lessons
  end
  if timers > 0 then redis.call('ZADD', KEYS[first + 2], 'GT', unpack(ARGV, at, at + 2 * timers - 1)) end
end
