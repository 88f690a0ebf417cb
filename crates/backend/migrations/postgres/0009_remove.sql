-- One step of removing a channel's publications on demand, up to and including p_up_to: at most p_rows of them, the oldest first.
-- May run beside retention and beside itself. Publications are deleted before the channel is locked, as retention does, so that
-- neither waits for the other in a circle.
--
-- head, trimmed    where the channel stands now
CREATE FUNCTION fanfare.remove_step(
    p_channel text,
    p_up_to bigint,
    p_rows int,
    OUT head bigint,
    OUT trimmed bigint
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    v_channel fanfare.channels;
    v_bound bigint;
BEGIN
    SELECT * INTO v_channel FROM fanfare.channels WHERE name = p_channel;
    remove_step.head := coalesce(v_channel.head, 0);
    remove_step.trimmed := coalesce(v_channel.trimmed, 0);
    v_bound := least(p_up_to, v_channel.head, v_channel.trimmed + p_rows);
    IF v_bound > v_channel.trimmed THEN
        DELETE FROM fanfare.publications
        WHERE channel = v_channel.id AND seq > v_channel.trimmed AND seq <= v_bound;
        UPDATE fanfare.channels SET trimmed = greatest(trimmed, v_bound)
        WHERE id = v_channel.id
        RETURNING channels.head, channels.trimmed INTO remove_step.head, remove_step.trimmed;
    END IF;
END
$$;
