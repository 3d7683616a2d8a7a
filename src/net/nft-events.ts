/** Reads what the kernel tells of changes of nft tables: who has changed ours. Pure. */
import { aligned, attributes } from "./netlink.ts";

export interface TableChange {
  /** Of the netlink socket that the change came from; unique in a network namespace. */
  readonly port: number;
  /** Of the process, for the log: in a container it has another number than we see. */
  readonly pid?: number | undefined;
  readonly program?: string | undefined;
}

const SUBSYSTEM_NFTABLES = 10;
/** The last message of a transaction. */
const NEW_GENERATION = 15;
const OUR_TABLES: ReadonlySet<string | undefined> = new Set(["oakestra", "oakestra_flows"]);
/** `ip` and `netdev`. */
const OUR_FAMILIES: ReadonlySet<number> = new Set([2, 5]);
/** The attribute with this number is the table's name, whatever the message is about. */
const TABLE = 1;
const GENERATION = { pid: 2, program: 3 } as const;
const HEADER = 16;
const FAMILY_HEADER = 4;
const BODY = HEADER + FAMILY_HEADER;

/** Numbers are in the machine's order: little-endian wherever we run. */
export class NftEvents {
  #hasTouchedOurs = false;

  /** One datagram, which holds one message or more. A change is known with the end of its transaction, maybe some datagrams later. */
  push(datagram: Buffer): TableChange[] {
    const changes: TableChange[] = [];
    for (let start = 0; start + BODY <= datagram.length; ) {
      const length = datagram.readUInt32LE(start);
      if (length < BODY || start + length > datagram.length) break;
      const change = this.#read(datagram.subarray(start, start + length));
      if (change) changes.push(change);
      start += aligned(length);
    }
    return changes;
  }

  #read(message: Buffer): TableChange | undefined {
    if (message[5] !== SUBSYSTEM_NFTABLES) return undefined;
    if (message[4] !== NEW_GENERATION) {
      this.#hasTouchedOurs ||=
        OUR_FAMILIES.has(message[HEADER]!) && OUR_TABLES.has(text(attributes(message.subarray(BODY)).get(TABLE)));
      return undefined;
    }
    if (!this.#hasTouchedOurs) return undefined;
    this.#hasTouchedOurs = false;
    const found = attributes(message.subarray(BODY));
    const pid = found.get(GENERATION.pid);
    return {
      port: message.readUInt32LE(12),
      pid: pid?.length === 4 ? pid.readUInt32BE() : undefined,
      program: text(found.get(GENERATION.program)),
    };
  }
}

function text(content: Buffer | undefined): string | undefined {
  return content?.toString("latin1").replace(/\0.*$/s, "");
}
