-- compatible_from: 0018
-- Everything that followed from a revision: `trueup events --follows-from`.
CREATE INDEX events_by_correlation ON trueup.events (correlation_id, event_id) WHERE correlation_id <> '';
