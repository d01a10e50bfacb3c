/**
 * Before all tests: what several test files need is made once here instead of in every worker at
 * the same time. Embedded PostgreSQL's template is one of them.
 */
import { startPostgres } from './postgres.ts'

export default async function setup(): Promise<void> {
  const server = await startPostgres()
  await server.stop()
}
