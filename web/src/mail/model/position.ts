/**
 * Where a stream stands. The id of an event reads `<epoch>-<which>-<seq>`; over the WebSocket gateway the same place is an epoch and
 * an offset. Both are read into one thing here, so that a page may come by one way and go on by the other.
 */

export interface Position {
  /** The log's identity: numbers of two epochs cannot be compared. */
  epoch: string;
  /** A checksum of the channel's name, which an id carries. */
  which: string;
  seq: number;
}

/** The position that an id names; null if it is none of a stream of one channel. */
export function parseId(id: string): Position | null {
  const [, epoch, which, seq] = /^([^-]+)-([0-9a-f]+)-(\d{1,16})$/.exec(id) ?? [];
  return epoch === undefined || which === undefined ? null : { epoch, which, seq: Number(seq) };
}

export function idOf({ epoch, which, seq }: Position): string {
  return `${epoch}-${which}-${seq}`;
}

/** Whether a stream that is at `at` has already shown what stands at `seq` in `epoch`. */
export function isBehind(at: Position | null, epoch: string, seq: number): boolean {
  return at !== null && at.epoch === epoch && seq <= at.seq;
}
