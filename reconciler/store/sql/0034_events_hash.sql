-- Each event carries its hash. Events from before the chain get theirs here, in the order of their ids; the trigger that
-- refuses changes is the owner's own and rests meanwhile, in this one transaction.
ALTER TABLE trueup.events ADD COLUMN hash bytea CHECK (length(hash) = 32);
ALTER TABLE trueup.events DISABLE TRIGGER events_append_only;
UPDATE trueup.events SET hash = chained.hash FROM (
    SELECT e.event_id, trueup.chain('\x0000000000000000000000000000000000000000000000000000000000000000'::bytea,
        trueup.canonical_event(e.event_id, e.occurred_at, e.aggregate_type, e.aggregate_id, e.aggregate_seq,
            e.event_type, e.event_version, e.command_id, e.actor_type, e.actor_id, e.org_id, e.source_id, e.commit_id,
            e.path, e.line, e.correlation_id, e.causation_id, e.payload))
        OVER (ORDER BY e.event_id ROWS UNBOUNDED PRECEDING) AS hash
    FROM trueup.events e
) chained WHERE events.event_id = chained.event_id;
ALTER TABLE trueup.events ENABLE TRIGGER events_append_only;
ALTER TABLE trueup.events ALTER COLUMN hash SET NOT NULL;
