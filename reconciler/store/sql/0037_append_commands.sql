-- Appends a batch in one round trip, when nothing speaks against any of its commands; returns the id of its first event.
-- Else it changes nothing and returns null, and the caller looks closer (look_before_append). versions[k]: what the
-- aggregate k has to be at before the batch, or null; seq_aggregates, seq_steps: an event's aggregate and its place among
-- the batch's events of that aggregate. Index scans are forced: a plan made on an empty table would scan for ever.
CREATE FUNCTION trueup.append_commands(
    command_ids text[], body_hashes text[], event_counts integer[],
    fences text[], fence_epochs bigint[],
    key_types text[], key_ids text[], versions bigint[],
    seq_aggregates integer[], seq_steps integer[],
    aggregate_types text[], aggregate_ids text[], event_types text[], event_versions integer[], event_commands text[],
    actor_types text[], actor_ids text[], org_ids text[], source_ids text[], commit_ids text[], paths text[],
    lines integer[], correlation_ids text[], causation_ids bigint[], payloads text[]
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = trueup, pg_temp
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    first_id bigint;
    newest bigint[];
BEGIN
    SELECT last_event_id + 1 INTO first_id FROM log_head FOR UPDATE;
    IF EXISTS (SELECT FROM unnest(command_ids) w (id) JOIN commands c ON c.command_id = w.id) THEN
        RETURN NULL;
    END IF;
    IF cardinality(fences) > 0 AND EXISTS (
        SELECT FROM unnest(fences, fence_epochs) f (name, epoch) LEFT JOIN leases l USING (name)
        WHERE l.epoch IS DISTINCT FROM f.epoch
    ) THEN
        RETURN NULL;
    END IF;
    SELECT array_agg(coalesce((SELECT e.aggregate_seq FROM events e
            WHERE e.aggregate_type = k.type AND e.aggregate_id = k.id ORDER BY e.aggregate_seq DESC LIMIT 1), 0) ORDER BY ord)
        INTO newest FROM unnest(key_types, key_ids) WITH ORDINALITY k (type, id, ord);
    IF EXISTS (SELECT FROM unnest(newest, versions) v (is_at, wanted) WHERE wanted <> is_at) THEN
        RETURN NULL;
    END IF;
    PERFORM write_events(first_id, aggregate_types, aggregate_ids,
        ARRAY(SELECT newest[aggregate] + step FROM unnest(seq_aggregates, seq_steps) WITH ORDINALITY s (aggregate, step, ord) ORDER BY ord),
        event_types, event_versions, event_commands, actor_types, actor_ids, org_ids, source_ids, commit_ids, paths,
        lines, correlation_ids, causation_ids, payloads, command_ids, body_hashes, event_counts);
    RETURN first_id;
END $$;
