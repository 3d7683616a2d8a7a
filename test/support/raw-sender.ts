/**
 * Sends raw packets, as a program: `<protocol> <host> <hexadecimal bytes> [count]`. With protocol 255 the bytes begin with the IP
 * header, in which the kernel fills in the checksum and nothing else.
 */
import { openRaw, sendRaw } from "./blocking-sockets.ts";

const [protocol = "", host = "", bytes = "", count = "1"] = process.argv.slice(2);
const raw = openRaw(Number(protocol), 1000);
const packet = Buffer.from(bytes, "hex");
for (let sent = 0; sent < Number(count); sent++) sendRaw(raw, host, packet);
process.exit();
