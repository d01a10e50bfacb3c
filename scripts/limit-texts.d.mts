/** The JSON schema, with the descriptions of `limits` in front of their defaults. */
export function withLimitTexts(schema: object): object
