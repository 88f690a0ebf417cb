-- Which steps of the schema of each app were applied. The tables of an app stand beside these and begin with its name.
CREATE TABLE app_migrations (
    app TEXT NOT NULL,
    version INTEGER NOT NULL,
    sum INTEGER NOT NULL,
    applied_at INTEGER NOT NULL,
    PRIMARY KEY (app, version)
) WITHOUT ROWID;
