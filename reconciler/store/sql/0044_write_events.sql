-- compatible_from: 0041
-- Replaces 0036: numbers events on from the head, chains their hashes, records the commands, and moves the head. The caller
-- holds the lock of the head and knows that everything fits; first_id says which number it believes to be next. It acts
-- with the owner's rights, so that the application needs none on the tables. Waking the readers is the caller's, afterwards.
CREATE OR REPLACE FUNCTION trueup.write_events(
    first_id bigint, aggregate_types text[], aggregate_ids text[], aggregate_seqs bigint[], event_types text[],
    event_versions integer[], event_commands text[], actor_types text[], actor_ids text[], org_ids text[],
    source_ids text[], commit_ids text[], paths text[], lines integer[], correlation_ids text[],
    causation_ids bigint[], payloads text[], command_ids text[], body_hashes text[], event_counts integer[]
) RETURNS void LANGUAGE plpgsql SECURITY DEFINER SET search_path = trueup, pg_temp AS $$
DECLARE
    head record;
    now_at timestamptz := clock_timestamp();
    new_hash bytea;
BEGIN
    SELECT last_event_id, head_hash INTO head FROM log_head FOR UPDATE;
    IF head.last_event_id + 1 <> first_id THEN
        RAISE EXCEPTION 'the next event is %, not %', head.last_event_id + 1, first_id USING ERRCODE = 'serialization_failure';
    END IF;
    INSERT INTO commands (command_id, body_hash, first_event_id, last_event_id)
        SELECT c.command_id, c.body_hash, first_id + c.upto - c.count, first_id + c.upto - 1
        FROM (SELECT *, sum(u.count) OVER (ORDER BY ord) AS upto
            FROM unnest(command_ids, body_hashes, event_counts) WITH ORDINALITY u (command_id, body_hash, count, ord)) c;
    IF cardinality(payloads) = 0 THEN
        RETURN;
    END IF;
    WITH written AS (
        INSERT INTO events (event_id, occurred_at, aggregate_type, aggregate_id, aggregate_seq, event_type,
            event_version, command_id, actor_type, actor_id, org_id, source_id, commit_id, path, line, correlation_id,
            causation_id, payload, hash)
        SELECT first_id + ord - 1, now_at, type, id, seq, event_type, version, command, actor_type, actor, org, source,
            commit, path, line, correlation, causation, payload::json,
            chain(head.head_hash, canonical_event(first_id + ord - 1, now_at, type, id, seq, event_type, version,
                command, actor_type, actor, org, source, commit, path, line, correlation, causation, payload))
                OVER (ORDER BY ord ROWS UNBOUNDED PRECEDING)
        FROM unnest(aggregate_types, aggregate_ids, aggregate_seqs, event_types, event_versions, event_commands,
            actor_types, actor_ids, org_ids, source_ids, commit_ids, paths, lines, correlation_ids, causation_ids, payloads)
            WITH ORDINALITY e (type, id, seq, event_type, version, command, actor_type, actor, org, source, commit, path,
                line, correlation, causation, payload, ord)
        RETURNING event_id, hash
    )
    SELECT hash INTO new_hash FROM written WHERE event_id = first_id + cardinality(payloads) - 1;
    UPDATE log_head SET last_event_id = first_id + cardinality(payloads) - 1, head_hash = new_hash;
END $$;
