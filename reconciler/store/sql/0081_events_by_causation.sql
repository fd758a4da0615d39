-- compatible_from: 0018
-- What answered an event: `trueup events --answers`.
CREATE INDEX events_by_causation ON trueup.events (causation_id, event_id) WHERE causation_id > 0;
