/** Reads what the kernel tells of changes of nft tables: who has changed ours. Pure. */

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
const ATTRIBUTE_HEADER = 4;
const TYPE_MASK = 0x3fff;

/** Numbers are in the machine's order: little-endian wherever we run. */
export class NftEvents {
  #hasTouchedOurs = false;

  /** One datagram, which holds one message or more. A change is known with the end of its transaction, maybe some datagrams later. */
  push(datagram: Buffer): TableChange[] {
    const changes: TableChange[] = [];
    for (let start = 0; start + HEADER + FAMILY_HEADER <= datagram.length; ) {
      const length = datagram.readUInt32LE(start);
      if (length < HEADER + FAMILY_HEADER || start + length > datagram.length) break;
      const change = this.#read(datagram.subarray(start, start + length));
      if (change) changes.push(change);
      start += aligned(length);
    }
    return changes;
  }

  #read(message: Buffer): TableChange | undefined {
    if (message[5] !== SUBSYSTEM_NFTABLES) return undefined;
    if (message[4] !== NEW_GENERATION) {
      this.#hasTouchedOurs ||= OUR_FAMILIES.has(message[HEADER]!) && OUR_TABLES.has(text(attribute(message, TABLE)));
      return undefined;
    }
    if (!this.#hasTouchedOurs) return undefined;
    this.#hasTouchedOurs = false;
    const pid = attribute(message, GENERATION.pid);
    return {
      port: message.readUInt32LE(12),
      pid: pid?.length === 4 ? pid.readUInt32BE() : undefined,
      program: text(attribute(message, GENERATION.program)),
    };
  }
}

function attribute(message: Buffer, wanted: number): Buffer | undefined {
  for (let start = HEADER + FAMILY_HEADER; start + ATTRIBUTE_HEADER <= message.length; ) {
    const length = message.readUInt16LE(start);
    if (length < ATTRIBUTE_HEADER || start + length > message.length) return undefined;
    const type = message.readUInt16LE(start + 2) & TYPE_MASK;
    if (type === wanted) return message.subarray(start + ATTRIBUTE_HEADER, start + length);
    start += aligned(length);
  }
  return undefined;
}

function text(content: Buffer | undefined): string | undefined {
  return content?.toString("latin1").replace(/\0.*$/s, "");
}

function aligned(length: number): number {
  return (length + 3) & ~3;
}
