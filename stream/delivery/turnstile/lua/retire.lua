#!lua flags=allow-oom
-- May tokens be retired that a provider calls bad? Not while it calls too many so: then it is not the tokens.
--
-- KEYS[1]  provider:{shard}:name  hash (ask.lua), and of it
--   judged, called_bad   the last 500 to 1,000 answers, and those of them that called a token bad
--   wave                 when that became too many (unix seconds); absent while all is well
-- ARGV  answers since the last question; those of them that called a token bad; the time (unix seconds)
-- Answers 1 if they may be retired, else 0.

local LEAST, TOO_MANY, FEW, KEPT = 20, 0.1, 0.05, 1000

local answers, bad, now = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local found = redis.call('HMGET', KEYS[1], 'judged', 'called_bad', 'wave')
local judged, called_bad, wave = tonumber(found[1]) or 0, tonumber(found[2]) or 0, found[3]

judged, called_bad = judged + answers, called_bad + bad
local share = judged > 0 and called_bad / judged or 0
if not wave and called_bad >= LEAST and share >= TOO_MANY then
  wave = now
  redis.call('HSET', KEYS[1], 'wave', now)
elseif wave and share < FEW then
  wave = false
  redis.call('HDEL', KEYS[1], 'wave')
end
-- What is older weighs less: a key that was exchanged in the middle of a good day shows at once.
if judged > KEPT then
  judged, called_bad = KEPT / 2, called_bad / judged * KEPT / 2
end
redis.call('HSET', KEYS[1], 'judged', judged, 'called_bad', string.format('%.3f', called_bad))
return wave and 0 or 1
