/** Options that several commands share, and how their values are read. */
import { type Command, InvalidArgumentError, Option } from "commander";
import { FORMATS } from "./output-format.ts";

export const CONTAINERD_SOCKET = "/run/containerd/containerd.sock";
export const STATE_DIR = "/var/lib/oakestra";
export const LOCAL_CLUSTER = "http://127.0.0.1:10100";
export const OPERATOR_TOKEN_FILE = `${STATE_DIR}/cluster/operator-token`;

/** Of a command that asks the root and shows what it answers. */
export function client(command: Command): Command {
  return server(output(command));
}

export function server(command: Command): Command {
  return command.option("--server <url>", "the root; default: OAK_SERVER, the login's, or http://127.0.0.1:10000");
}

export function output(command: Command): Command {
  return command.addOption(new Option("-o, --output <format>", "how to show it").choices(FORMATS).default("table"));
}

export function password(command: Command): Command {
  return command.option("--password-stdin", "read the password from standard input");
}

export function count(text: string): number {
  if (!/^\d{1,4}$/.test(text)) throw new InvalidArgumentError("It must be a whole number from 0 to 9999.");
  return Number(text);
}

export function positive(text: string): number {
  const number = count(text);
  if (number === 0) throw new InvalidArgumentError("It must be at least 1.");
  return number;
}
