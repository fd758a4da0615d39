-- compatible_from: 0041
-- Who reads also reads what later migrations make: the right belongs to the role that makes it, and that is trueup_owner now.
ALTER DEFAULT PRIVILEGES IN SCHEMA trueup GRANT SELECT ON TABLES TO trueup_read;
