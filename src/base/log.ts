/**
 * Structured log: one JSON object (or one text line) an event. The message is a fixed lower-case phrase,
 * data are fields. Levels: error = a human must act, warn = degraded but retrying, info = a state changed,
 * debug = why. Fields whose name says secret are redacted here, not by callers.
 */
export interface Logger {
  debug(fields: Fields, message: string): void;
  info(fields: Fields, message: string): void;
  warn(fields: Fields, message: string): void;
  error(fields: Fields, message: string): void;
  /** A logger whose every line carries `fields` too. */
  child(fields: Fields): Logger;
}

export type Fields = Readonly<Record<string, unknown>>;
export type LogLevel = "debug" | "info" | "warn" | "error";
export type LogFormat = "json" | "text";

const RANK: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 };
const SECRET_FIELD = /(password|secret|token|authorization|credential|environment)/i;

export interface LogSink {
  readonly level: LogLevel;
  readonly format: LogFormat;
  readonly write: (line: string) => void;
  readonly now: () => number;
}

export function createLogger(sink: LogSink, bound: Fields = {}): Logger {
  const emit = (level: LogLevel, fields: Fields, message: string) => {
    if (RANK[level] < RANK[sink.level]) return;
    const all = redact({ ...bound, ...fields });
    sink.write(
      sink.format === "json" ? jsonLine(sink.now(), level, all, message) : textLine(sink.now(), level, all, message),
    );
  };
  return {
    debug: (fields, message) => emit("debug", fields, message),
    info: (fields, message) => emit("info", fields, message),
    warn: (fields, message) => emit("warn", fields, message),
    error: (fields, message) => emit("error", fields, message),
    child: (fields) => createLogger(sink, { ...bound, ...fields }),
  };
}

/** For tests and for code that must not speak. */
export const silentLogger: Logger = {
  debug: () => {},
  info: () => {},
  warn: () => {},
  error: () => {},
  child: () => silentLogger,
};

function redact(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fields).map(([key, value]) => [key, SECRET_FIELD.test(key) ? "[redacted]" : plain(value)]),
  );
}

function plain(value: unknown): unknown {
  if (!(value instanceof Error)) return value;
  const cause = value.cause === undefined ? undefined : plain(value.cause);
  return {
    message: value.message,
    code: (value as { code?: unknown }).code,
    ...(cause === undefined ? {} : { cause }),
  };
}

function jsonLine(now: number, level: LogLevel, fields: Fields, message: string): string {
  return `${JSON.stringify({ time: new Date(now).toISOString(), level, message, ...fields })}\n`;
}

function textLine(now: number, level: LogLevel, fields: Fields, message: string): string {
  const data = Object.entries(fields)
    .filter(([, value]) => value !== undefined)
    .map(([key, value]) => `${key}=${typeof value === "string" ? value : JSON.stringify(value)}`);
  return `${new Date(now).toISOString().slice(11, 23)} ${level.padEnd(5)} ${[message, ...data].join("  ").replaceAll("\n", "\\n")}\n`;
}
