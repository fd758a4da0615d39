-- What a fold of the log gives since environment.created and .updated have version 2: no quota was given before.
UPDATE trueup.view_resources SET doc = jsonb_set(doc, '{spec,quota}', '{}')
WHERE doc ->> 'kind' = 'environment' AND NOT doc -> 'spec' ? 'quota';
