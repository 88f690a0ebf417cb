/** Who is in the room, where each of them is, and who talks. */

import type { MemberPosition, Participant } from './protocol.js';
import type { Member } from './view/people.js';

export class Members {
  readonly #members = new Map<string, Member>();
  readonly #voices = new Map<string, 'in' | 'speaking'>();
  me = '';

  get count(): number {
    return this.#members.size;
  }

  get mine(): Participant | null {
    return this.#members.get(this.me)?.participant ?? null;
  }

  /** The members: the own one first, then the owner, then by when they came. */
  list(): Member[] {
    const rank = ({ participant }: Member): number =>
      participant.oderId === this.me ? 0 : participant.role === 'owner' ? 1 : 2;
    return [...this.#members.values()].sort((left, right) => rank(left) - rank(right));
  }

  nameOf(oderId: string | null | undefined): string | null {
    return this.#members.get(oderId ?? '')?.participant.username ?? null;
  }

  replace(participants: Participant[]): void {
    const before = new Map(this.#members);
    this.#members.clear();
    for (const participant of participants) {
      this.#set(participant, before.get(participant.oderId));
    }
  }

  /** Somebody has come; false when they were there already. */
  joined(participant: Participant): boolean {
    const known = this.#members.get(participant.oderId);
    this.#set(participant, known);
    return known === undefined;
  }

  /** Somebody has left: their name, if they were there. */
  left(oderId: string): string | null {
    const name = this.nameOf(oderId);
    this.#members.delete(oderId);
    this.#voices.delete(oderId);
    return name;
  }

  owned(ownerId: string | null): void {
    for (const [oderId, { participant }] of this.#members) {
      const owner = oderId === ownerId;
      if (owner !== (participant.role === 'owner')) {
        participant.role = owner ? 'owner' : 'participant';
      }
    }
  }

  /** Who may control, by the rule of the room. */
  control(may: (participant: Participant) => boolean): void {
    for (const { participant } of this.#members.values()) {
      participant.canControl = may(participant);
    }
  }

  status(oderId: string, status: string): void {
    const member = this.#members.get(oderId);
    if (member !== undefined) {
      member.participant.status = status;
    }
  }

  /** A member says where it is; `age` is how long that has been on the way. */
  at(position: MemberPosition, rate: number, age: number): void {
    const member = this.#members.get(position.oderId);
    if (member === undefined) {
      return;
    }
    member.where = {
      mediaTimeMs: position.mediaTimeMs,
      driftMs: position.driftMs,
      rttMs: position.rttMs,
      isPlaying: position.isPlaying ?? false,
      buffering: position.buffering ?? false,
      rate,
      at: performance.now() - age,
    };
  }

  /** Who else is in voice. */
  voices(oderIds: string[]): void {
    this.#voices.clear();
    oderIds.forEach((oderId) => this.voice(oderId, 'in'));
    this.#showVoices();
  }

  voice(oderId: string, voice: 'none' | 'in' | 'speaking'): void {
    if (voice === 'none') {
      this.#voices.delete(oderId);
    } else {
      this.#voices.set(oderId, voice);
    }
    this.#showVoices();
  }

  #set(participant: Participant, before: Member | undefined): void {
    const voice = this.#voices.get(participant.oderId) ?? 'none';
    this.#members.set(participant.oderId, { participant, where: before?.where ?? null, voice });
  }

  #showVoices(): void {
    for (const [oderId, member] of this.#members) {
      member.voice = this.#voices.get(oderId) ?? 'none';
    }
  }
}
