import * as z from "zod/mini";
import { Cidr } from "../protocol/route.ts";

/** A list of IPv4 ranges, or its text form `10.18.0.0/15,10.20.0.0/14`; the empty text is the empty list. */
export const CidrList = z.pipe(
  z.union([
    z.array(z.string()),
    z.pipe(
      z.string(),
      z.transform((text) => (text === "" ? [] : text.split(",").map((one) => one.trim()))),
    ),
  ]),
  z.array(Cidr),
);
