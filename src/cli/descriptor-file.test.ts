import assert from "node:assert/strict";
import { test } from "node:test";
import { AppError } from "../base/errors.ts";
import { parseDescriptor } from "./descriptor-file.ts";

const VALID = {
  sla_version: "v2.0",
  applications: [
    {
      application_name: "shop",
      application_namespace: "prod",
      microservices: [
        { microservice_name: "web", microservice_namespace: "prod", virtualization: "container", code: "nginx" },
      ],
    },
  ],
};
const YAML = `sla_version: v2.0
applications:
  - application_name: shop
    application_namespace: prod
    microservices:
      - microservice_name: web
        microservice_namespace: prod
        virtualization: container
        code: nginx
        memory: -5
`;

function refusal(text: string): string {
  try {
    parseDescriptor(text, "sla.yaml");
  } catch (error) {
    assert.ok(error instanceof AppError && error.code === "INPUT_INVALID", String(error));
    return error.message;
  }
  return assert.fail("it was accepted");
}

test("parseDescriptor() reads JSON and YAML alike", () => {
  assert.deepEqual(parseDescriptor(JSON.stringify(VALID), "a"), VALID);
  assert.deepEqual(parseDescriptor(YAML.replace(/ +memory.*\n/, ""), "a"), VALID);
});

test("a broken descriptor is refused with the place where it is broken", () => {
  const cases: [string, RegExp][] = [
    ["a: [1, 2", /^sla\.yaml:1:9: /],
    ['{"sla_version": "v2.0",,}', /^sla\.yaml:1:\d+: /],
    ['{"sla_version": "v2.0", "applications": [}', /^sla\.yaml:1:42: "\]" is missing here/],
    ["a: 1\na: 2\n", /^sla\.yaml:2:1: .*unique/],
    ["", /is not a descriptor/],
    ["just text", /is not a descriptor/],
    ["[]", /is not a descriptor/],
    [YAML, /^sla\.yaml:10:17: applications\[0\]\.microservices\[0\]\.memory: /],
    [YAML.replace("-5", "1e300"), /memory/],
    [YAML.replace("-5", "lots"), /memory: .*expected number/],
    [YAML.replace("shop", "my.shop"), /^sla\.yaml:3:23: .*application_name: "my\.shop" is not a valid name/],
    [YAML.replace("v2.0", "v9"), /sla_version: "v9" is not supported/],
    [YAML.replace(/ +code: nginx\n/, ""), /^sla\.yaml:6:9: .*code: is missing; expected: string$/m],
    [`${YAML.replace("-5", "5")}        constraints: [{type: moon}]\n`, /unknown constraint type/],
    [`${YAML.replace("-5", "5")}        port: "99999:80"\n`, /port 99999 .* outside/],
  ];
  for (const [text, expected] of cases) assert.match(refusal(text), expected);
});

test("a descriptor that would exhaust memory is refused", () => {
  assert.match(refusal("x".repeat(10_000_001)), /10000001 characters/);
  const bomb = ["a0: &a0 [x, x]", ...Array.from({ length: 30 }, (_, i) => `a${i + 1}: &a${i + 1} [*a${i}, *a${i}]`)];
  assert.match(refusal(bomb.join("\n")), /alias/i);
});
