/** What anybody may ask, and the documentation. */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod/mini";
import { AppError, hasCode } from "../../../base/errors.ts";
import { PROTOCOL_VERSION } from "../../../protocol/uplink.ts";
import type { HttpResponse } from "../../../transport/http-message.ts";
import { type ApiDeps, jsonRoute, type Route, rawRoute } from "../route.ts";
import { SWAGGER_INIT, SWAGGER_PAGE } from "../swagger-page.ts";

const tag = "about";

/** Everything of the page comes from here; Swagger UI writes styles into its elements. */
const CONTENT_SECURITY_POLICY =
  "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; " +
  "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

export const ABOUT_ROUTES: readonly Route[] = [
  jsonRoute({
    method: "GET",
    path: "/api/version",
    tag,
    summary: "Version of the program, and of the protocol that it speaks with clusters",
    access: "open",
    schema: z.object({ version: z.string(), protocol: z.int() }),
    handle: async ({ deps }) => ({ version: deps.version, protocol: PROTOCOL_VERSION }),
  }),
  jsonRoute({
    method: "GET",
    path: "/api/health",
    tag,
    summary: "Whether the root serves",
    access: "open",
    schema: z.object({ status: z.literal("ok") }),
    handle: async () => ({ status: "ok" as const }),
  }),
  ...["/api/openapi.json", "/docs/openapi.json"].map((path) =>
    file({ path, summary: "This document", contentType: "application/json", name: "openapi.json" }),
  ),
  page({ path: "/api/docs", summary: "Swagger UI", contentType: "text/html; charset=utf-8", content: SWAGGER_PAGE }),
  page({
    path: "/api/docs/init.js",
    summary: "Starts Swagger UI",
    contentType: "text/javascript",
    content: SWAGGER_INIT,
  }),
  ...[
    { name: "swagger-ui.css", contentType: "text/css" },
    { name: "swagger-ui-bundle.js", contentType: "text/javascript" },
  ].map(({ name, contentType }) =>
    file({ path: `/api/docs/${name}`, summary: "Part of Swagger UI", contentType, name: `swagger-ui/${name}` }),
  ),
];

interface Served {
  readonly path: string;
  readonly summary: string;
  readonly contentType: string;
}

function page({ path, summary, contentType, content }: Served & { content: string }): Route {
  const headers = { "content-type": contentType, "content-security-policy": CONTENT_SECURITY_POLICY };
  return rawRoute({
    method: "GET",
    path,
    tag,
    summary,
    access: "open",
    contentType,
    handle: async () => ({ status: 200, headers, body: content }),
  });
}

/** Read anew each time: hardly ever asked for, too large to keep. */
function file({ path, summary, contentType, name }: Served & { name: string }): Route {
  return rawRoute({
    method: "GET",
    path,
    tag,
    summary,
    access: "open",
    contentType,
    errors: ["UNAVAILABLE"],
    handle: async ({ deps }) => readDist(deps, name, contentType),
  });
}

async function readDist({ distDir }: ApiDeps, name: string, contentType: string): Promise<HttpResponse> {
  try {
    return {
      status: 200,
      headers: { "content-type": contentType, "cache-control": "max-age=300" },
      body: await readFile(join(distDir, name)),
    };
  } catch (cause) {
    if (!hasCode(cause, "ENOENT")) throw cause;
    throw new AppError("UNAVAILABLE", `${name} has not been built: run "npm run build"`, { cause });
  }
}
