/** A row of the route table: the server is wired from it, and the OpenAPI document is made from it. */
import type * as z from "zod/mini";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { ErrorCode } from "../../protocol/error-codes.ts";
import type { HttpRequest, HttpResponse } from "../../transport/http-message.ts";
import type { Auth, Caller } from "../auth/auth.ts";
import type { Passwords } from "../auth/passwords.ts";
import type { Changes } from "../changes.ts";
import type { Role } from "../model.ts";
import type { Orchestration } from "../orchestration.ts";
import type { RegistrySecrets } from "../registry-secrets.ts";
import type { RootStore } from "../store/root-store.ts";

export interface ApiDeps {
  readonly store: RootStore;
  readonly auth: Auth;
  readonly passwords: Passwords;
  readonly orchestration: Orchestration;
  readonly changes: Changes;
  readonly registrySecrets: Pick<RegistrySecrets, "put">;
  readonly clock: Clock;
  /** That join tokens are made by; default: `clock`. */
  readonly tokenClock?: Pick<Clock, "now"> | undefined;
  readonly log: Logger;
  readonly version: string;
  /** atc23: bodies of rows marked `twice` are JSON inside a JSON string. */
  readonly encoding: "plain" | "atc23";
  /** Folder of openapi.json and swagger-ui/. */
  readonly distDir: string;
}

export interface Context<Body> {
  readonly deps: ApiDeps;
  readonly request: HttpRequest;
  /** Of the path; `id` is well-formed. */
  readonly params: Readonly<Record<string, string>>;
  /** On open routes: nobody, without a name or role. */
  readonly caller: Caller;
  readonly body: Body;
  /** Told in the answer's Warning header; the request succeeds all the same. */
  warn(text: string): void;
}

/** Who may: anybody; any user; who has a refresh token; users with one of these roles. */
export type Access = "open" | "user" | "refresh" | readonly Role[];

interface RouteHead {
  readonly method: "GET" | "POST" | "PUT" | "DELETE";
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly access: Access;
  /** Name → meaning. */
  readonly query?: Readonly<Record<string, string>>;
  /** Beyond those that follow from access, body and method. */
  readonly errors?: readonly ErrorCode[];
}

export interface Route extends RouteHead {
  readonly body?: z.ZodMiniType;
  readonly answer: JsonAnswer | RawAnswer;
  readonly handle: (context: Context<unknown>) => Promise<unknown>;
}

interface JsonAnswer {
  readonly kind: "json";
  readonly schema: z.ZodMiniType;
  readonly twice: boolean;
}

/** `handle` returns an HttpResponse. */
interface RawAnswer {
  readonly kind: "raw";
  readonly contentType: string;
}

export function jsonRoute<Answer extends z.ZodMiniType, Body extends z.ZodMiniType = z.ZodMiniUndefined>(
  row: RouteHead & {
    readonly body?: Body;
    readonly schema: Answer;
    /** The 2023 release sent this body as JSON in a JSON string. */
    readonly twice?: boolean;
    readonly handle: (context: Context<z.output<Body>>) => Promise<z.output<Answer>>;
  },
): Route {
  const { schema, twice = false, handle, ...head } = row;
  return { ...head, answer: { kind: "json", schema, twice }, handle: handle as Route["handle"] };
}

export function rawRoute(
  row: RouteHead & {
    readonly contentType: string;
    readonly handle: (context: Context<undefined>) => Promise<HttpResponse>;
  },
): Route {
  const { contentType, handle, ...head } = row;
  return { ...head, answer: { kind: "raw", contentType }, handle: handle as Route["handle"] };
}
