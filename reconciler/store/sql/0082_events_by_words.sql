-- compatible_from: 0041
-- What audits ask for. One small index that says in which blocks a word may stand, instead of two trees that every append
-- has to write into: a rare word is found by it, a frequent one by walking along event_id. A command's events are found
-- through its row in commands.
DROP INDEX trueup.events_by_type, trueup.events_by_org, trueup.events_by_command;
CREATE INDEX events_by_words ON trueup.events USING brin (
    event_type text_bloom_ops, org_id text_bloom_ops, source_id text_bloom_ops
) WITH (autosummarize = on);
