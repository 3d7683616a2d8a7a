/** The OpenAPI 3.1 document of the route table. Made at build time; the running root serves the file and loads none of this. */
import * as z from "zod/mini";
import { ApplicationDescriptor, Descriptor, MicroserviceDescriptor } from "../../protocol/descriptor.ts";
import { ERROR_CODES, type ErrorCode } from "../../protocol/error-codes.ts";
import { ClusterDocument } from "./cluster-document.ts";
import { ApplicationDocument, InstanceDocument, ServiceDocument } from "./documents.ts";
import type { Route } from "./route.ts";
import { ROUTES } from "./routes.ts";
import { UserDocument } from "./user-document.ts";

type Json = Readonly<Record<string, unknown>>;
type Direction = "input" | "output";

const ErrorDocument = z.looseObject({
  error: z.enum(Object.keys(ERROR_CODES) as [ErrorCode, ...ErrorCode[]]),
  message: z.string(),
  details: z.record(z.string(), z.unknown()),
  msg: z.optional(z.string()),
});

/** Schemas with a name of their own. */
const COMPONENTS: Readonly<Record<string, { schema: z.ZodMiniType; direction: Direction }>> = {
  Descriptor: { schema: Descriptor, direction: "input" },
  ApplicationDescriptor: { schema: ApplicationDescriptor, direction: "input" },
  MicroserviceDescriptor: { schema: MicroserviceDescriptor, direction: "input" },
  Application: { schema: ApplicationDocument, direction: "output" },
  Service: { schema: ServiceDocument, direction: "output" },
  Instance: { schema: InstanceDocument, direction: "output" },
  Cluster: { schema: ClusterDocument, direction: "output" },
  User: { schema: UserDocument, direction: "output" },
  Error: { schema: ErrorDocument, direction: "output" },
};

export function openapiDocument(version: string): Json {
  const paths: Record<string, Record<string, Json>> = {};
  for (const route of ROUTES) {
    const path = route.path.replace(/:(\w+)/g, "{$1}");
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operation(route) };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Oakestra",
      version,
      description:
        "The API of an Oakestra root. Log in at `POST /api/auth/login`, then send the token as `Authorization: Bearer …`. " +
        "Every path may end with a slash. Errors have a stable `error` code; `message` is for people.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    tags: [...new Set(ROUTES.map(({ tag }) => tag))].map((name) => ({ name })),
    paths,
    components: {
      schemas: Object.fromEntries(
        Object.entries(COMPONENTS).map(([name, { schema, direction }]) => [name, jsonSchema(schema, direction)]),
      ),
      securitySchemes: { bearer: { type: "http", scheme: "bearer", bearerFormat: "JWT" } },
    },
    security: [{ bearer: [] }],
  };
}

function operation(route: Route): Json {
  const parameters = [...pathParameters(route.path), ...queryParameters(route.query ?? {})];
  return {
    operationId: operationId(route),
    tags: [route.tag],
    summary: route.summary,
    ...(typeof route.access === "string" ? {} : { description: `For the roles ${route.access.join(", ")}.` }),
    ...(route.access === "open" ? { security: [] } : {}),
    ...(parameters.length > 0 ? { parameters } : {}),
    ...(route.body
      ? { requestBody: { required: true, content: { "application/json": { schema: reference(route.body, "input") } } } }
      : {}),
    responses: { 200: success(route), ...failures(errorsOf(route)) },
  };
}

function operationId({ method, path }: Route): string {
  const words = path.split(/[^a-zA-Z0-9]+/).filter((word) => word !== "" && word !== "api");
  return method.toLowerCase() + words.map((word) => word[0]!.toUpperCase() + word.slice(1)).join("");
}

function pathParameters(path: string): Json[] {
  return [...path.matchAll(/:(\w+)/g)].map(([, name]) => ({
    name,
    in: "path",
    required: true,
    schema:
      { id: { type: "string", pattern: "^[0-9a-f]{24}$" }, number: { type: "integer", minimum: -1 } }[name!] ??
      ({ type: "string" } as const),
  }));
}

function queryParameters(query: Readonly<Record<string, string>>): Json[] {
  return Object.entries(query).map(([name, description]) => ({
    name,
    in: "query",
    required: false,
    description,
    schema: { type: "string" },
  }));
}

function success({ answer }: Route): Json {
  if (answer.kind === "raw")
    return { description: "Done", content: { [answer.contentType]: { schema: { type: "string" } } } };
  return {
    description: answer.twice ? "Done; with `--api-encoding atc23` this is JSON inside a JSON string" : "Done",
    content: { "application/json": { schema: reference(answer.schema, "output") } },
  };
}

/** What a row can be refused with: what follows from its kind, and what it adds. */
export function errorsOf({ access, body, method, path, errors = [], answer }: Route): ErrorCode[] {
  const codes: ErrorCode[] = [
    ...(access === "open" ? [] : (["TOKEN_MISSING", "TOKEN_INVALID", "TOKEN_EXPIRED"] as const)),
    ...(typeof access === "string" ? [] : (["FORBIDDEN"] as const)),
    ...(body ? (["INVALID_JSON", "INVALID_BODY", "BODY_TOO_LARGE", "UNSUPPORTED_MEDIA_TYPE"] as const) : []),
    ...(path.includes(":id") || path.includes(":number") ? (["INVALID_ID"] as const) : []),
    ...(method === "GET" ? [] : (["STORAGE_FULL"] as const)),
    ...(answer.kind === "raw" && access === "open" ? [] : (["STORAGE_FAILED", "INTERNAL"] as const)),
    ...errors,
  ];
  return [...new Set(codes)];
}

function failures(codes: readonly ErrorCode[]): Json {
  const byStatus = Map.groupBy(codes, (code) => ERROR_CODES[code].status);
  return Object.fromEntries(
    [...byStatus].map(([status, same]) => [
      status,
      {
        description: same.map((code) => `\`${code}\`: ${ERROR_CODES[code].meaning}`).join(". "),
        content: { "application/json": { schema: { $ref: "#/components/schemas/Error" } } },
      },
    ]),
  );
}

function reference(schema: z.ZodMiniType, direction: Direction): Json {
  const named = nameOf(schema);
  if (named) return named;
  if (schema instanceof z.ZodMiniArray) {
    const item = nameOf(schema._zod.def.element as z.ZodMiniType);
    if (item) return { type: "array", items: item };
  }
  return jsonSchema(schema, direction);
}

function nameOf(schema: z.ZodMiniType): Json | undefined {
  const name = Object.keys(COMPONENTS).find((key) => COMPONENTS[key]!.schema === schema);
  return name === undefined ? undefined : { $ref: `#/components/schemas/${name}` };
}

function jsonSchema(schema: z.ZodMiniType, direction: Direction): Json {
  const { $schema: _, ...rest } = z.toJSONSchema(schema, { io: direction, unrepresentable: "any", reused: "inline" });
  return rest;
}
