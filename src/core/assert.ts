/**
 * Assertions for programmer errors. An expected outcome is a value; a fault of the outside world is
 * a ProxyError (errors.ts); what "cannot happen" is an assertion, and it ends the connection.
 */

/** A broken invariant of regate itself. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

/** Throws AssertionError with the literal message when the condition does not hold. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message)
}

/** Closes a `switch` over a discriminated union: the compiler proves that no kind is left. */
export function assertNever(value: never, message = 'unreachable'): never {
  throw new AssertionError(`${message}: ${JSON.stringify(value)}`)
}

/** The value, or an AssertionError with the literal message where it is null or undefined. */
export function present<T>(value: T | null | undefined, message: string): T {
  if (value === null || value === undefined) throw new AssertionError(message)
  return value
}
