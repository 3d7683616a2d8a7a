export const FORMATS = ["table", "json", "yaml"] as const;
export type Format = (typeof FORMATS)[number];
