-- What append_commands does, for one command with one event: the common case when nothing else waits, and the way with the
-- least work in it. Returns the event's id, or null when something speaks against it.
CREATE FUNCTION trueup.append_one(
    new_command text, body_hash text, fence text, fence_epoch bigint, version bigint, type text, id text, event_type text,
    event_version integer, actor_type text, actor_id text, org_id text, source_id text, commit_id text, path text,
    line integer, correlation_id text, causation_id bigint, payload text
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = trueup, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
DECLARE
    event_id bigint;
    head bytea;
    seq bigint;
    now_at timestamptz;
    document jsonb := payload::jsonb;
BEGIN
    SELECT h.last_event_id + 1, h.head_hash INTO event_id, head FROM log_head h FOR UPDATE;
    IF EXISTS (SELECT FROM commands c WHERE c.command_id = new_command) THEN
        RETURN NULL;
    END IF;
    IF fence <> '' AND NOT EXISTS (SELECT FROM leases l WHERE l.name = fence AND l.epoch = fence_epoch) THEN
        RETURN NULL;
    END IF;
    SELECT e.aggregate_seq INTO seq FROM events e WHERE e.aggregate_type = type AND e.aggregate_id = id
        ORDER BY e.aggregate_seq DESC LIMIT 1;
    seq := coalesce(seq, 0);
    IF version <> seq THEN
        RETURN NULL;
    END IF;
    seq := seq + 1;
    now_at := clock_timestamp();
    head := chain_link(NULL, head, canonical_event(event_id, now_at, type, id, seq, event_type, event_version,
        new_command, actor_type, actor_id, org_id, source_id, commit_id, path, line, correlation_id, causation_id,
        document));
    INSERT INTO events VALUES (event_id, now_at, type, id, seq, event_type, event_version, new_command, actor_type,
        actor_id, org_id, source_id, commit_id, path, line, correlation_id, causation_id, document, head);
    INSERT INTO commands VALUES (new_command, body_hash, event_id, event_id);
    UPDATE log_head SET last_event_id = event_id, head_hash = head;
    PERFORM pg_notify('trueup_log', event_id::text);
    RETURN event_id;
END $$;
