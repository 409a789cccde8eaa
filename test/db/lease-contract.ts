import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { releaseClaim } from "../../src/db/claim-records.ts";
import type { Queries } from "../../src/db/connect.ts";
import type { AttemptOrder } from "../../src/domain/attempt-order.ts";
import { thisProcess, type ProcessIdentity } from "../../src/processes/process-identity.ts";
import { NODE, type Catalogue, SOME_WRITER } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

/** The key of what a lease stands for. */
export interface LeaseId {
  readonly imageId: string;
  /** 0 for an upload. */
  readonly epoch: number;
}

/** An attempt that takes a lease. */
export interface LeaseAttempt {
  readonly node: string;
  readonly token: string;
  readonly writer: ProcessIdentity;
  readonly attempt: AttemptOrder | null;
  readonly part: string;
}

/** A lease as the catalogue has it. */
export interface FoundLease extends Omit<LeaseAttempt, "attempt" | "part"> {
  /** Null: no bytes lie under a private name. */
  readonly part: string | null;
  readonly state: "writing" | "whole";
}

/** A kind of bytes that a lease stands for, by the functions that keep its records. */
export interface LeaseKind {
  /** With its article, as "an upload". */
  readonly name: string;
  /** An image of which an attempt may take the lease. */
  readonly image: () => Promise<LeaseId>;
  /** Ends the owner of the lease without an undo: the import, or the process that uploads. */
  readonly end: (id: LeaseId) => Promise<void>;
  /**
   * Makes the lease of one attempt free for the next one. Default: it always is, as Temporal starts
   * an attempt only when the one before is over.
   */
  readonly free?: (id: LeaseId) => Promise<void>;
  /** The code of the failure of an attempt that lost its lease to another. */
  readonly overtaken: "AttemptOvertaken" | "StagingBusy";
  /** False for what has no bytes. Default: true. */
  readonly hasPart?: boolean;
  /** False for bytes that no import owns. */
  readonly hasClaim: boolean;
  readonly take: (db: Queries, id: LeaseId, attempt: LeaseAttempt) => Promise<void>;
  readonly require: (db: Queries, id: LeaseId, token: string) => Promise<void>;
  readonly finish: (db: Queries, id: LeaseId, attempt: LeaseAttempt) => Promise<void>;
  /** @returns false if there is nothing to take away */
  readonly takeAway: (db: Queries, id: LeaseId, taker: LeaseTaker) => Promise<boolean>;
  readonly drop: (db: Queries, id: LeaseId, token: string) => Promise<void>;
  readonly find: (db: Queries, id: LeaseId) => Promise<FoundLease | undefined>;
  /** The images with a lease on this node that has no owner. */
  readonly listAbandoned: (db: Queries, node: string) => Promise<string[]>;
}

/** The holder of a lease whose bytes are being removed. */
export type LeaseTaker = Omit<LeaseAttempt, "part" | "node">;

/** The n-th attempt of one step. */
function order(attempt: number): AttemptOrder {
  return { run: "run", activity: 1, attempt, scheduledAtMs: 1000 * attempt };
}

function anAttempt(id: LeaseId, attempt = 1): LeaseAttempt {
  const token = randomUUID();
  const part = `${id.imageId}.${String(id.epoch)}.${token.slice(0, 8)}.part`;
  return { node: NODE, token, writer: SOME_WRITER, attempt: order(attempt), part };
}

async function aTaker(attempt = 3): Promise<LeaseTaker> {
  return { token: randomUUID(), writer: await thisProcess(), attempt: order(attempt) };
}

/**
 * The rules that every lease keeps: a row says who writes bytes before they exist, and they are
 * adopted, finished and removed only through that row.
 */
export function testLease(catalogue: Catalogue, kind: LeaseKind): void {
  const inTransaction = <T>(work: (db: Queries) => Promise<T>): Promise<T> =>
    catalogue.database.transaction(work);
  const find = (id: LeaseId) => inTransaction((db) => kind.find(db, id));
  const take = (id: LeaseId, attempt: LeaseAttempt) =>
    inTransaction((db) => kind.take(db, id, attempt));
  const require = (id: LeaseId, { token }: LeaseAttempt) =>
    inTransaction((db) => kind.require(db, id, token));
  const finish = (id: LeaseId, attempt: LeaseAttempt) =>
    inTransaction((db) => kind.finish(db, id, attempt));
  const drop = (id: LeaseId, token: string) => inTransaction((db) => kind.drop(db, id, token));
  const takeAway = (id: LeaseId, taker: LeaseTaker) =>
    inTransaction((db) => kind.takeAway(db, id, taker));
  const isAbandoned = async (id: LeaseId, node = NODE) =>
    (await inTransaction((db) => kind.listAbandoned(db, node))).includes(id.imageId);

  /** An image, and the attempt that holds its lease. */
  async function held() {
    const id = await kind.image();
    const attempt = anAttempt(id);
    await take(id, attempt);
    return { id, attempt };
  }

  /** The same, and the later attempt that has taken the lease. */
  async function overtaken() {
    const { id, attempt: late } = await held();
    await kind.free?.(id);
    const attempt = anAttempt(id, 2);
    await take(id, attempt);
    return { id, late, attempt };
  }

  describe(`The lease of ${kind.name}`, () => {
    it("names its node, its writer and its part before the first byte", async () => {
      const { id, attempt } = await held();

      const { node, token, writer, part } = attempt;
      const named = { node, token, writer, part: kind.hasPart === false ? null : part };
      expect(await find(id)).toMatchObject({ ...named, state: "writing" });
      await require(id, attempt);
    });

    it("is finished by the attempt that holds it, once its bytes are whole", async () => {
      const { id, attempt } = await held();

      await finish(id, attempt);

      expect(await find(id)).toMatchObject({ state: "whole", node: NODE });
    });

    it("goes to a later attempt, and the earlier one can neither continue nor finish", async () => {
      const { id, late, attempt } = await overtaken();
      const before = await find(id);

      const failures = [await failureOf(require(id, late)), await failureOf(finish(id, late))];

      expect(failures.map(({ code }) => code)).toEqual([kind.overtaken, kind.overtaken]);
      expect(await find(id)).toEqual(before);
      await require(id, attempt);
    });

    it("is forgotten by the attempt that holds it, and by no other", async () => {
      const { id, late, attempt } = await overtaken();

      await drop(id, late.token);
      expect(await find(id)).toMatchObject({ token: attempt.token });
      await drop(id, attempt.token);

      expect(await find(id)).toBeUndefined();
    });

    it("is taken away for the removal of its bytes, and its attempt finishes nothing", async () => {
      const { id, attempt } = await held();
      await kind.free?.(id);
      const taker = await aTaker();

      expect(await takeAway(id, taker)).toBe(true);

      expect((await failureOf(finish(id, attempt))).code).toBe(kind.overtaken);
      // Without a part no later attempt continues bytes whose writer may be alive.
      expect(await find(id)).toMatchObject({ token: taker.token, state: "writing", part: null });
      await drop(id, attempt.token);
      expect(await find(id)).toMatchObject({ token: taker.token });
      await drop(id, taker.token);
      expect(await find(id)).toBeUndefined();
    });

    it("is not there to be taken away before an attempt took it", async () => {
      const id = await kind.image();

      expect(await takeAway(id, await aTaker())).toBe(false);
    });

    it("is abandoned on its node when its owner has ended, and not before", async () => {
      const { id } = await held();

      expect(await isAbandoned(id)).toBe(false);
      await kind.end(id);

      expect(await isAbandoned(id)).toBe(true);
      expect(await isAbandoned(id, "ba9876543210")).toBe(false);
    });

    if (!kind.hasClaim) return;

    it("is not taken from a later attempt", async () => {
      const { id, attempt } = await overtaken();

      const failure = await failureOf(take(id, anAttempt(id, 1)));

      expect(failure.code).toBe("AttemptOvertaken");
      expect(await find(id)).toMatchObject({ token: attempt.token });
    });

    it("is not taken away from an attempt that comes after the undo", async () => {
      const { id, attempt } = await overtaken();

      const failure = await failureOf(takeAway(id, await aTaker(1)));

      expect(failure.code).toBe("AttemptOvertaken");
      expect(await find(id)).toMatchObject({ token: attempt.token });
    });

    it("is not taken without the claim", async () => {
      const id = await kind.image();
      await kind.end(id);

      const failure = await failureOf(take(id, anAttempt(id)));

      expect(failure.code).toBe("ImportLost");
      expect(await find(id)).toBeUndefined();
    });

    it("holds nothing without the claim", async () => {
      const { id, attempt } = await held();
      await kind.end(id);

      const failure = await failureOf(require(id, attempt));

      expect(failure.code).toBe("ImportLost");
      expect(await find(id)).toMatchObject({ token: attempt.token, state: "writing" });
    });

    it("stays when an earlier import of the image is undone", async () => {
      const { id, attempt } = await held();

      expect(await takeAway({ ...id, epoch: id.epoch - 1 }, await aTaker())).toBe(false);

      await require(id, attempt);
    });
  });
}

/** Ends an import without the undo of its bytes, as a lost run does. */
export async function endImport(catalogue: Catalogue, { imageId }: LeaseId): Promise<void> {
  const { claimWorkflowId, claimRunId } = await catalogue.image(imageId);
  const claim = { imageId, workflowId: claimWorkflowId ?? "", runId: claimRunId ?? "" };
  await catalogue.database.transaction((db) =>
    releaseClaim(db, claim, { message: "Error: its run was lost" }, []),
  );
}
