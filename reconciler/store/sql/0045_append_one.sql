-- compatible_from: 0041
-- What append_batch (0046) does, for one command with one event: the common case when nothing else waits, and the way with
-- the least work in it. It returns {the event's id, what its aggregate was at}, or
-- null when something speaks against it.
CREATE FUNCTION trueup.append_one(
    new_command text, body_hash text, fence text, fence_epoch bigint, version bigint, floor bigint, type text, id text,
    event_type text, event_version integer, actor_type text, actor_id text, org_id text, source_id text, commit_id text,
    path text, line integer, correlation_id text, causation_id bigint, payload text
) RETURNS bigint[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = trueup, pg_temp AS $$
DECLARE
    new_id bigint;
    head bytea;
    seq bigint;
    now_at timestamptz;
BEGIN
    SELECT h.last_event_id + 1, h.head_hash INTO new_id, head FROM log_head h FOR UPDATE;
    IF EXISTS (SELECT FROM commands c WHERE c.command_id = new_command) THEN
        RETURN NULL;
    END IF;
    IF fence <> '' AND NOT EXISTS (SELECT FROM leases l WHERE l.name = fence AND l.epoch = fence_epoch) THEN
        RETURN NULL;
    END IF;
    SELECT e.aggregate_seq INTO seq FROM events e WHERE e.aggregate_type = type AND e.aggregate_id = id
        AND e.aggregate_seq >= floor ORDER BY e.aggregate_seq DESC LIMIT 1;
    IF seq IS NULL AND floor > 0 THEN
        SELECT e.aggregate_seq INTO seq FROM events e WHERE e.aggregate_type = type AND e.aggregate_id = id
            ORDER BY e.aggregate_seq DESC LIMIT 1;
    END IF;
    seq := coalesce(seq, 0);
    IF version <> seq THEN
        RETURN NULL;
    END IF;
    IF actor_type NOT IN ('user', 'service_principal', 'system') THEN
        RAISE EXCEPTION 'an actor is none of user, service_principal, system' USING ERRCODE = 'check_violation';
    END IF;
    now_at := clock_timestamp();
    head := chain_link(NULL, head, canonical_event(new_id, now_at, type, id, seq + 1, event_type, event_version,
        new_command, actor_type, actor_id, org_id, source_id, commit_id, path, line, correlation_id, causation_id,
        payload));
    INSERT INTO events VALUES (new_id, now_at, type, id, seq + 1, event_type, event_version, new_command, actor_type,
        actor_id, org_id, source_id, commit_id, path, line, correlation_id, causation_id, payload::json, head);
    INSERT INTO commands VALUES (new_command, body_hash, new_id, new_id);
    UPDATE log_head SET last_event_id = new_id, head_hash = head;
    RETURN ARRAY[new_id, seq];
END $$;
