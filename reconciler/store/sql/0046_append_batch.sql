-- compatible_from: 0041
-- Appends a batch of commands in one round trip, when nothing speaks against any of them; returns the id of its first
-- event, then what each aggregate was at. Else it changes nothing and returns null, and the caller looks closer
-- (look_before_append). Each cause, command, aggregate and kind of event comes once; a command names its cause, an event
-- the other three, by their places in those arrays, and its own place among the batch's events of its aggregate
-- (event_steps). versions[k]: what the aggregate k has to be at before the batch, or null. floors[k]: what it was at once,
-- 0 when that is not known; it only spares looking through what is older. fences and versions are null when no command has
-- any. How its plans are made is a setting of the connection (reconciler/store/append_line.py).
CREATE FUNCTION trueup.append_batch(
    actor_types text[], actor_ids text[], org_ids text[], source_ids text[], commit_ids text[], paths text[],
    lines integer[], correlation_ids text[], causation_ids bigint[],
    command_ids text[], body_hashes text[], event_counts integer[], causes integer[],
    fences text[], fence_epochs bigint[],
    key_types text[], key_ids text[], versions bigint[], floors bigint[],
    event_types text[], event_versions integer[],
    event_commands integer[], event_keys integer[], event_steps integer[], event_kinds integer[], payloads text[]
) RETURNS bigint[] LANGUAGE plpgsql SECURITY DEFINER SET search_path = trueup, pg_temp AS $$
DECLARE
    before_id bigint;
    before_hash bytea;
    after_hash bytea;
    newest bigint[];
    now_at timestamptz;
BEGIN
    SELECT last_event_id, head_hash INTO before_id, before_hash FROM log_head FOR UPDATE;
    IF EXISTS (SELECT FROM commands c WHERE c.command_id = ANY (command_ids)) THEN
        RETURN NULL;
    END IF;
    IF fences IS NOT NULL AND EXISTS (
        SELECT FROM unnest(fences, fence_epochs) f (name, epoch) LEFT JOIN leases l USING (name)
        WHERE l.epoch IS DISTINCT FROM f.epoch
    ) THEN
        RETURN NULL;
    END IF;
    newest := ARRAY(
        SELECT coalesce(
            (SELECT e.aggregate_seq FROM events e WHERE e.aggregate_type = k.type AND e.aggregate_id = k.id
                AND e.aggregate_seq >= k.floor ORDER BY e.aggregate_seq DESC LIMIT 1),
            (SELECT e.aggregate_seq FROM events e WHERE k.floor > 0 AND e.aggregate_type = k.type
                AND e.aggregate_id = k.id ORDER BY e.aggregate_seq DESC LIMIT 1),
            0)
        FROM unnest(key_types, key_ids, floors) k (type, id, floor));
    IF versions IS NOT NULL
        AND EXISTS (SELECT FROM unnest(newest, versions) v (is_at, wanted) WHERE v.wanted <> v.is_at) THEN
        RETURN NULL;
    END IF;
    IF NOT actor_types <@ ARRAY['user', 'service_principal', 'system'] THEN
        RAISE EXCEPTION 'an actor is none of user, service_principal, system' USING ERRCODE = 'check_violation';
    END IF;
    INSERT INTO commands (command_id, body_hash, first_event_id, last_event_id)
        SELECT c.id, c.body_hash, before_id + 1 + c.upto - c.count, before_id + c.upto
        FROM (SELECT *, sum(u.count) OVER (ORDER BY u.ord ROWS UNBOUNDED PRECEDING) AS upto
            FROM unnest(command_ids, body_hashes, event_counts) WITH ORDINALITY u (id, body_hash, count, ord)) c;
    IF cardinality(payloads) > 0 THEN
        now_at := clock_timestamp();
        WITH written AS (
            INSERT INTO events (event_id, occurred_at, aggregate_type, aggregate_id, aggregate_seq, event_type,
                event_version, command_id, actor_type, actor_id, org_id, source_id, commit_id, path, line,
                correlation_id, causation_id, payload, hash)
            SELECT e.id, now_at, e.type, e.aggregate, e.seq, e.event_type, e.version, e.command_id, e.actor_type,
                e.actor, e.org, e.source, e.commit, e.path, e.line, e.correlation, e.causation, e.payload::json,
                chain(before_hash, canonical_event(e.id, now_at, e.type, e.aggregate, e.seq, e.event_type, e.version,
                    e.command_id, e.actor_type, e.actor, e.org, e.source, e.commit, e.path, e.line, e.correlation,
                    e.causation, e.payload)) OVER (ORDER BY e.id ROWS UNBOUNDED PRECEDING)
            FROM (
                SELECT before_id + u.ord AS id, key_types[u.key] AS type, key_ids[u.key] AS aggregate,
                    newest[u.key] + u.step AS seq, event_types[u.kind] AS event_type, event_versions[u.kind] AS version,
                    command_ids[u.command] AS command_id, actor_types[u.cause] AS actor_type,
                    actor_ids[u.cause] AS actor, org_ids[u.cause] AS org, source_ids[u.cause] AS source,
                    commit_ids[u.cause] AS commit, paths[u.cause] AS path, lines[u.cause] AS line,
                    correlation_ids[u.cause] AS correlation, causation_ids[u.cause] AS causation, u.payload
                FROM (SELECT *, causes[command] AS cause
                    FROM unnest(event_commands, event_keys, event_steps, event_kinds, payloads)
                        WITH ORDINALITY v (command, key, step, kind, payload, ord)) u
                OFFSET 0  -- each is looked up once
            ) e
            RETURNING event_id, hash
        )
        SELECT hash INTO after_hash FROM written ORDER BY event_id DESC LIMIT 1;
        UPDATE log_head SET last_event_id = before_id + cardinality(payloads), head_hash = after_hash;
    END IF;
    RETURN (before_id + 1) || newest;
END $$;
