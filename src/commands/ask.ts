/**
 * Secrets from people and from pipes. What is typed is never echoed, and a secret is never an argument
 * of a command, because `ps` and the shell's history show those.
 */
import { createInterface } from 'node:readline/promises'
import type { Readable } from 'node:stream'
import { CommandFailure } from './failure.ts'

const inputBytesMax = 64 * 1024

/** Asks on the terminal, without echo; the question goes to stderr, so that stdout can be piped. */
export async function askSecret(question: string): Promise<string> {
  const reader = createInterface({ input: process.stdin, output: process.stderr, terminal: true })
  // readline's own writing is switched off for the answer.
  const silent = reader as unknown as { _writeToOutput?: (text: string) => void }
  process.stderr.write(question)
  silent._writeToOutput = () => undefined
  const answer = await reader.question('')
  reader.close()
  process.stderr.write('\n')
  return answer
}

/** The first line of standard input. */
export async function readSecretLine(input: Readable): Promise<string> {
  let text = ''
  for await (const chunk of input) {
    text += String(chunk)
    if (text.includes('\n') || text.length > inputBytesMax) break
  }
  if (text.length > inputBytesMax) throw new CommandFailure('the password is too long')
  return text.split(/\r?\n/, 1)[0] ?? ''
}
