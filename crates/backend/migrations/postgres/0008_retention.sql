-- `trim_step` as it was, but that it looks at the publications that it removes and at one more of each channel, instead of
-- at thousands that stay.
--
-- One step of retention in one namespace: looks at the next channels after p_after by id, and removes at most about
-- p_rows publications. Runs under the trimmer's advisory lock, so that only removal on demand may run beside it: what that removed
-- meanwhile stays removed.
--
-- p_age        milliseconds; older publications go. NULL: no bound.
-- p_count      all but so many of the newest go. NULL: no bound.
--
-- removed      publications removed
-- reached      where the next step begins; NULL when the namespace is done
CREATE OR REPLACE FUNCTION fanfare.trim_step(
    p_namespace text,
    p_age bigint,
    p_count bigint,
    p_after bigint,
    p_channels int,
    p_rows int,
    OUT removed bigint,
    OUT reached bigint
) LANGUAGE plpgsql AS $$
DECLARE
    v_cutoff bigint := fanfare.now_ms() - p_age;
    v_looked int := 0;
    v_bound bigint;
    v_end bigint;
    v_old bigint;
    v_rows bigint;
    v_ids bigint[] := '{}';
    v_bounds bigint[] := '{}';
    v_channel record;
BEGIN
    removed := 0;
    FOR v_channel IN
        SELECT page.id, page.head, page.trimmed, oldest.time AS oldest
        FROM (
            SELECT id, head, trimmed FROM fanfare.channels
            WHERE namespace = p_namespace AND id > p_after ORDER BY id LIMIT p_channels
        ) AS page
        LEFT JOIN fanfare.publications oldest
            ON oldest.channel = page.id AND oldest.seq = page.trimmed + 1
        ORDER BY page.id
    LOOP
        v_looked := v_looked + 1;
        reached := v_channel.id;
        v_bound := greatest(v_channel.trimmed, coalesce(v_channel.head - p_count, 0));
        v_bound := least(v_bound, v_channel.trimmed + p_rows - removed);
        IF v_channel.oldest < v_cutoff THEN
            -- Time never goes back in a channel: what is too old ends before the first that is not. Numbers are dense, so the
            -- rows that are looked at are bounded by them.
            v_end := least(v_channel.head, v_channel.trimmed + p_rows - removed);
            SELECT seq - 1 INTO v_old FROM fanfare.publications
            WHERE channel = v_channel.id AND seq > v_channel.trimmed AND seq <= v_end AND time >= v_cutoff
            ORDER BY seq LIMIT 1;
            v_bound := greatest(v_bound, coalesce(v_old, v_end));
        END IF;
        IF v_bound > v_channel.trimmed THEN
            DELETE FROM fanfare.publications
            WHERE channel = v_channel.id AND seq > v_channel.trimmed AND seq <= v_bound;
            GET DIAGNOSTICS v_rows = ROW_COUNT;
            removed := removed + v_rows;
            v_ids := v_ids || v_channel.id;
            v_bounds := v_bounds || v_bound;
        END IF;
        IF removed >= p_rows THEN
            -- There may be more in this channel.
            reached := v_channel.id - 1;
            EXIT;
        END IF;
    END LOOP;

    -- Channels are locked in the order of all writers, and only now that the slow part is over.
    IF cardinality(v_ids) > 0 THEN
        PERFORM FROM fanfare.channels WHERE id = ANY (v_ids) ORDER BY id FOR NO KEY UPDATE;
        UPDATE fanfare.channels SET trimmed = greatest(trimmed, step.bound)
        FROM unnest(v_ids, v_bounds) AS step (id, bound) WHERE channels.id = step.id;
    END IF;
    IF removed < p_rows AND v_looked < p_channels THEN
        reached := NULL;
    END IF;
END
$$;
