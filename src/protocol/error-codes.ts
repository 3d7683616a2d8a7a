/** Every code that a client of the HTTP API can meet, its status and its meaning. The documentation is generated from here. */
export const ERROR_CODES = {
  INVALID_JSON: { status: 400, meaning: "The body is not JSON" },
  INVALID_BODY: { status: 422, meaning: "A field of the body is missing or wrong; `details.problems` lists them" },
  BODY_TOO_LARGE: { status: 413, meaning: "The body is larger than the API accepts" },
  UNSUPPORTED_MEDIA_TYPE: { status: 415, meaning: "The body must be sent as application/json" },
  INVALID_ID: { status: 400, meaning: "An id or instance number in the path is malformed" },
  LOGIN_FAILED: { status: 401, meaning: "Unknown user or wrong password" },
  PASSWORD_REFUSED: { status: 400, meaning: "The old password is wrong, or the new one is not acceptable" },
  TOKEN_MISSING: { status: 401, meaning: "The Authorization header is missing" },
  TOKEN_INVALID: { status: 401, meaning: "The token is malformed or was not signed by this root" },
  TOKEN_EXPIRED: { status: 401, meaning: "The token has expired; refresh it or log in again" },
  TOO_MANY_LOGINS: { status: 429, meaning: "Too many failed logins; wait a little" },
  PROTOCOL_UNSUPPORTED: {
    status: 400,
    meaning: "A worker and its cluster speak different versions of the protocol; `message` names both",
  },
  FORBIDDEN: { status: 403, meaning: "The caller's role or ownership does not allow this" },
  NOT_FOUND: { status: 404, meaning: "There is no such thing, or it is not the caller's" },
  METHOD_NOT_ALLOWED: { status: 405, meaning: "The path exists, but not with this method" },
  NAME_TAKEN: { status: 409, meaning: "The name is in use; `details.holder` tells by what" },
  ADDRESS_TAKEN: { status: 409, meaning: "The service address is in use; `details.holder` tells by what" },
  NO_ADDRESS_LEFT: {
    status: 503,
    meaning:
      "Every address of the service range is in use or has been until a moment ago; free some, or widen the range",
  },
  IN_USE: { status: 409, meaning: "It is still used by something else" },
  STORAGE_FULL: { status: 507, meaning: "The disk of the state folder is full; nothing was changed" },
  STORAGE_FAILED: { status: 500, meaning: "The state folder cannot be written; nothing was changed" },
  UNAVAILABLE: { status: 503, meaning: "A part that is needed for this is not reachable right now" },
  INTERNAL: { status: 500, meaning: "A defect of this program; the log has the details" },
} as const satisfies Record<string, { status: number; meaning: string }>;

export type ErrorCode = keyof typeof ERROR_CODES;
