/** A role's flags, made from its table of settings: one line there is a flag, an environment variable and a key of the file. */
import { hostname } from "node:os";
import { type Command, Option } from "commander";
import { flagName, type Settings } from "../base/settings.ts";

export function addSettings(command: Command, settings: Settings): void {
  for (const [key, setting] of Object.entries(settings)) {
    // A secret would stand in the process list: it comes by environment or file.
    if (setting.secret) continue;
    const isSwitch = typeof setting.default === "boolean";
    const value = isSwitch ? "[on|off]" : typeof setting.default === "number" ? "<number>" : "<value>";
    const option = new Option(`${flagName(key)} ${value}`, describe(setting.help, setting.default));
    command.addOption(isSwitch ? option.preset("on") : option);
  }
}

/** What was typed, without what was not. */
export function typedSettings(settings: Settings, options: Readonly<Record<string, unknown>>): Record<string, unknown> {
  return Object.fromEntries(Object.keys(settings).flatMap((key) => (key in options ? [[key, options[key]]] : [])));
}

function describe(help: string, value: unknown): string {
  if (value === undefined || value === "" || value === false) return help;
  if (typeof value === "object") return help;
  return `${help} Default: ${value === hostname() ? "this machine's name" : String(value)}.`;
}
