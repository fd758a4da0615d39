-- compatible_from: 0041
-- What 0031 makes, of a payload that is text already.
CREATE FUNCTION trueup.canonical_event(
    event_id bigint, occurred_at timestamptz, aggregate_type text, aggregate_id text, aggregate_seq bigint,
    event_type text, event_version integer, command_id text, actor_type text, actor_id text, org_id text,
    source_id text, commit_id text, path text, line integer, correlation_id text, causation_id bigint, payload text
) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT concat_ws(':', 1, event_id, (extract(epoch FROM occurred_at) * 1000000)::bigint, aggregate_seq,
        event_version, line, causation_id, length(aggregate_type), length(aggregate_id), length(event_type),
        length(command_id), length(actor_type), length(actor_id), length(org_id), length(source_id),
        length(commit_id), length(path), length(correlation_id), '')
        || aggregate_type || aggregate_id || event_type || command_id || actor_type || actor_id || org_id || source_id
        || commit_id || path || correlation_id || payload
$$;
