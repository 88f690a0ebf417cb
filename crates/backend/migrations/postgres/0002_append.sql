-- Commits one batch of one lane. Called outside of any transaction block, at READ COMMITTED: each statement below must
-- see what was committed while the one before it waited.
--
-- p_names      the batch's channels, each once, sorted by bytes
-- p_counts     for each channel, how many drafts it has
-- p_channels   for each draft, which of them, from 1
-- p_keys       idempotency keys, no channel has the same one twice; NULL when no draft has any (also p_infos, p_tags)
--
-- heads        for each channel, its head before the batch
-- batch_time   the time of the batch
-- key_seqs, key_times   for each draft, the number and time of the publication that had its key before; NULL when no
--              draft has a key. Drafts that have one here are duplicates; the others are numbered from the heads on.
--
-- Fails with FF001 when the lane was retired; then nothing was committed.
CREATE FUNCTION fanfare.append(
    p_lane bigint,
    p_n bigint,
    p_names text[],
    p_counts int[],
    p_channels int[],
    p_ids uuid[],
    p_data bytea[],
    p_infos bytea[],
    p_tags bytea[],
    p_keys bytea[],
    OUT heads bigint[],
    OUT batch_time bigint,
    OUT key_seqs bigint[],
    OUT key_times bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_ids bigint[];
    v_counts int[] := p_counts;
    v_channel int;
BEGIN
    PERFORM FROM fanfare.lanes WHERE id = p_lane AND NOT retired FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'lane % was retired', p_lane USING ERRCODE = 'FF001';
    END IF;

    -- New channels first, in one order for all writers, before any row of a channel is locked.
    IF (SELECT count(*) FROM fanfare.channels WHERE name = ANY (p_names)) < cardinality(p_names) THEN
        INSERT INTO fanfare.channels (name, namespace)
        SELECT name, CASE WHEN position(':' IN name) > 0 THEN split_part(name, ':', 1) ELSE '' END
        FROM unnest(p_names) AS name
        WHERE NOT EXISTS (SELECT FROM fanfare.channels known WHERE known.name = name.name)
        ORDER BY name
        ON CONFLICT (name) DO NOTHING;
    END IF;

    -- From here to the commit the numbers of these channels are ours. One order for all writers: no deadlock.
    SELECT array_agg(locked.id ORDER BY locked.name), array_agg(locked.head ORDER BY locked.name),
           greatest(fanfare.now_ms(), max(locked.last_time))
    INTO v_ids, heads, batch_time
    FROM (
        SELECT id, name, head, last_time FROM fanfare.channels
        WHERE name = ANY (p_names) ORDER BY id FOR NO KEY UPDATE
    ) AS locked;

    -- In a statement of its own, after the locks: its snapshot has what the last holder of the locks committed.
    IF p_keys IS NOT NULL THEN
        SELECT array_agg(known.seq ORDER BY draft.place), array_agg(known.time ORDER BY draft.place)
        INTO key_seqs, key_times
        FROM unnest(p_channels, p_keys) WITH ORDINALITY AS draft (channel, key, place)
        LEFT JOIN fanfare.idempotency_keys known
            ON known.channel = v_ids[draft.channel] AND known.key = draft.key;

        FOR v_channel IN
            SELECT draft.channel FROM unnest(p_channels, key_seqs) AS draft (channel, seq)
            WHERE draft.seq IS NOT NULL
        LOOP
            v_counts[v_channel] := v_counts[v_channel] - 1;
        END LOOP;

        INSERT INTO fanfare.idempotency_keys (channel, key, seq, time)
        SELECT v_ids[fresh.channel], fresh.key, heads[fresh.channel] + fresh.rank, batch_time
        FROM (
            SELECT draft.channel, draft.key,
                   row_number() OVER (PARTITION BY draft.channel ORDER BY draft.place) AS rank
            FROM unnest(p_channels, p_keys) WITH ORDINALITY AS draft (channel, key, place)
            WHERE key_seqs[draft.place] IS NULL
        ) AS fresh
        WHERE fresh.key IS NOT NULL;
    END IF;

    INSERT INTO fanfare.publications (channel, seq, id, time, data, info, tags)
    SELECT v_ids[draft.channel],
           heads[draft.channel] + row_number() OVER (PARTITION BY draft.channel ORDER BY draft.place),
           draft.id, batch_time, draft.data, draft.info, draft.tags
    FROM unnest(p_channels, p_ids, p_data, p_infos, p_tags)
        WITH ORDINALITY AS draft (channel, id, data, info, tags, place)
    WHERE key_seqs[draft.place] IS NULL;

    UPDATE fanfare.channels SET head = channels.head + added.count, last_time = batch_time
    FROM unnest(v_ids, v_counts) AS added (id, count)
    WHERE channels.id = added.id AND added.count > 0;

    INSERT INTO fanfare.lane_log (lane, n, time, channels, firsts, lasts)
    SELECT p_lane, p_n, batch_time, array_agg(added.name), array_agg(added.head + 1),
           array_agg(added.head + added.count)
    FROM unnest(p_names, heads, v_counts) AS added (name, head, count)
    WHERE added.count > 0
    HAVING count(*) > 0;
END
$$;

-- Opens a lane, and retires the one this node had before: that waits for a batch of it that is still in flight.
CREATE FUNCTION fanfare.open_lane(p_node text, p_about bytea, p_retire bigint) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
    v_now bigint := fanfare.now_ms();
    v_lane bigint;
BEGIN
    PERFORM FROM fanfare.lanes WHERE id = p_retire FOR UPDATE;
    UPDATE fanfare.lanes SET retired = true WHERE id = p_retire;
    INSERT INTO fanfare.lanes (node, about, heartbeat_at, opened_at)
    VALUES (p_node, p_about, CASE WHEN p_about IS NOT NULL THEN v_now END, v_now)
    RETURNING id INTO v_lane;
    RETURN v_lane;
END
$$;

-- Says that a lane is alive, and lists all that were within the last p_silence milliseconds.
CREATE FUNCTION fanfare.heartbeat(p_lane bigint, p_about bytea, p_silence bigint)
RETURNS TABLE (lane bigint, words bytea) LANGUAGE plpgsql AS $$
BEGIN
    UPDATE fanfare.lanes SET about = p_about, heartbeat_at = fanfare.now_ms()
    WHERE id = p_lane AND NOT retired;
    RETURN QUERY
        SELECT id, about FROM fanfare.lanes
        WHERE NOT retired AND about IS NOT NULL AND heartbeat_at >= fanfare.now_ms() - p_silence
        ORDER BY id;
END
$$;
