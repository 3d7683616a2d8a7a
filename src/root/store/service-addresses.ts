/** The addresses of services and instances: those that a descriptor asks for, else the next free ones. Synchronous. */
import { isUsable, type Pool } from "../../addressing/pool.ts";
import { formatAddress, formatSubnet, parseAddress } from "../../addressing/subnet.ts";
import { AppError } from "../../base/errors.ts";
import type { Database } from "../../base/sqlite.ts";
import type { MicroserviceDescriptor } from "../../protocol/descriptor.ts";
import type { Service } from "../model.ts";
import { free, type PieceBook, takeNext, takeWanted } from "./pieces.ts";

export type Addresses = Pick<Service, "roundRobin" | "closest">;

/** The two addresses of a service, and the descriptor's field for each. */
const FIELDS = { roundRobin: "rr_ip", closest: "closest_ip" } as const;

/** Whoever takes addresses, and what it must leave to others. */
export interface Taker extends Pick<Service, "id" | "jobName"> {
  readonly book: PieceBook;
  readonly now: number;
  /** Asked for by services of the same request. */
  readonly avoid?: ReadonlySet<number>;
}

/** All addresses that these services ask for. */
export function wantedAddresses(descriptors: readonly MicroserviceDescriptor[]): Set<number> {
  const wanted = descriptors.flatMap(({ addresses }) => [addresses?.rr_ip, addresses?.closest_ip]);
  return new Set(wanted.flatMap((text) => parseAddress(text ?? "") ?? []));
}

/** @throws INVALID_BODY | ADDRESS_TAKEN | NO_ADDRESS_LEFT */
export function takeAddresses(db: Database, taker: Taker, { addresses }: MicroserviceDescriptor): Addresses {
  const one = (kind: keyof Addresses) => {
    const wanted = addresses?.[FIELDS[kind]];
    return wanted ? takeByName(db, taker, { kind, wanted }) : takeAddress(db, taker);
  };
  return { roundRobin: one("roundRobin"), closest: one("closest") };
}

/** What a changed descriptor asks for is given, and what it replaces is freed; what it does not ask for stays. */
export function changeAddresses(
  db: Database,
  taker: Taker,
  { service, descriptor }: { readonly service: Addresses; readonly descriptor: MicroserviceDescriptor },
): Addresses {
  const one = (kind: keyof Addresses) => {
    const wanted = descriptor.addresses?.[FIELDS[kind]];
    if (!wanted || wanted === service[kind]) return service[kind];
    const given = takeByName(db, taker, { kind, wanted });
    freeAddress(db, service[kind], taker.now);
    return given;
  };
  return { roundRobin: one("roundRobin"), closest: one("closest") };
}

export function takeAddress(db: Database, { id, book, now, avoid }: Taker): string {
  const piece = takeNext(db, book, { holder: id, now, ...(avoid && { avoid }) });
  if (piece !== undefined) return formatAddress(piece);
  const range = rangeOf(book.pool);
  throw new AppError("NO_ADDRESS_LEFT", `All addresses of ${range} are in use, or were until a moment ago`, {
    details: { range },
  });
}

export function freeAddress(db: Database, address: string, now: number): void {
  free(db, "service", parseAddress(address)!, now);
}

function takeByName(
  db: Database,
  { id, jobName, book }: Taker,
  { kind, wanted }: { readonly kind: keyof Addresses; readonly wanted: string },
): string {
  const field = `addresses.${FIELDS[kind]}`;
  const piece = parseAddress(wanted);
  if (piece === undefined || !isUsable(book.pool, piece)) {
    const message = `"${wanted}" is not an address of ${rangeOf(book.pool)} (those ending in 0 or 255 are not given out)`;
    throw new AppError("INVALID_BODY", `Service "${jobName}": ${field}: ${message}`, {
      details: { service: jobName, problems: [{ field, message }] },
    });
  }
  const holderId = takeWanted(db, "service", piece, id);
  if (holderId === undefined) return wanted;
  // A service that takes its first addresses is not stored yet.
  const holder = jobNameOf(db, holderId) ?? jobName;
  throw new AppError("ADDRESS_TAKEN", `Service "${jobName}": ${field}: ${wanted} is taken by service "${holder}"`, {
    details: { address: wanted, field, service: jobName, holder: { service: holder, serviceId: holderId } },
  });
}

function jobNameOf(db: Database, serviceId: string): string | undefined {
  const row = db.prepare("SELECT job_name AS name FROM services WHERE id = ?").get(serviceId);
  return row && String(row.name);
}

function rangeOf({ ranges }: Pool): string {
  return ranges.map(formatSubnet).join(", ");
}
