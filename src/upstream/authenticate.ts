/**
 * The client's half of authentication upstream: trust, cleartext password, md5, SCRAM-SHA-256 and
 * -PLUS (fe-auth.c, fe-auth-scram.c). One instance per connection.
 *
 * Invariants: AuthenticationOk counts only when no exchange is half done, so that an impostor cannot
 * skip the proof that it knows the password; a cleartext password goes over TLS or stays on the
 * machine; the password is in no error.
 */
import { createHash } from 'node:crypto'
import { ProxyError } from '../core/core.ts'
import {
  ScramClient,
  scramMechanism,
  scramPlusMechanism,
  type ScramKeyCache,
} from '../identity/identity.ts'
import {
  encodePassword,
  encodeSaslInitialResponse,
  encodeSaslResponse,
  written,
  type Authentication,
} from '../wire/wire.ts'
import type { UpstreamRole } from './target.ts'

export interface AuthenticateOptions {
  readonly role: UpstreamRole
  readonly keys: ScramKeyCache
  readonly encrypted: boolean
  /** The stream never leaves this machine. */
  readonly local: boolean
  readonly endPoint: Buffer | null
}

/** Answers Authentication messages. */
export class UpstreamAuthentication {
  readonly #options: AuthenticateOptions
  #scram: ScramClient | null = null
  #state: 'open' | 'scram_first' | 'scram_final' | 'verified' | 'done' = 'open'

  constructor(options: AuthenticateOptions) {
    this.#options = options
  }

  get finished(): boolean {
    return this.#state === 'done'
  }

  /** The message to send, or null where there is none. */
  async answer(message: Authentication): Promise<Buffer | null> {
    switch (message.kind) {
      case 'ok':
        return this.#accept()
      case 'cleartext_password':
        return this.#cleartext()
      case 'md5_password':
        return this.#md5(Buffer.from(message.salt))
      case 'sasl':
        return this.#beginScram(message.mechanisms)
      case 'sasl_continue':
        return this.#continueScram(Buffer.from(message.data))
      case 'sasl_final':
        return this.#verifyScram(Buffer.from(message.data))
      case 'kerberos_v5':
      case 'gss':
      case 'gss_continue':
      case 'sspi':
        throw refused(`it asks for ${message.kind}, which regate does not speak`)
    }
  }

  #accept(): null {
    if (this.#state === 'scram_first' || this.#state === 'scram_final') {
      throw refused('it ended SCRAM before it proved that it knows the password')
    }
    if (this.#state === 'done') throw refused('it repeats AuthenticationOk')
    this.#state = 'done'
    return null
  }

  async #cleartext(): Promise<Buffer> {
    this.#expectOpen()
    if (!this.#options.encrypted && !this.#options.local) {
      throw refused(
        'it asks for the password in cleartext over an unencrypted network',
        'Set upstream.tls.mode to verify-full, or use scram-sha-256 in pg_hba.conf.',
      )
    }
    const password = await this.#password()
    return written((writer) => encodePassword(writer, password))
  }

  /** "md5" + md5(md5(password + user) + salt), both in hexadecimal (src/common/md5_common.c). */
  async #md5(salt: Buffer): Promise<Buffer> {
    this.#expectOpen()
    const inner = md5(Buffer.from((await this.#password()) + this.#options.role.user))
    const outer = md5(Buffer.concat([Buffer.from(inner), salt]))
    return written((writer) => encodePassword(writer, `md5${outer}`))
  }

  async #beginScram(mechanisms: readonly string[]): Promise<Buffer> {
    this.#expectOpen()
    const { encrypted, endPoint, keys } = this.#options
    const bindable = encrypted && endPoint !== null
    const binds = bindable && mechanisms.includes(scramPlusMechanism)
    if (!binds && !mechanisms.includes(scramMechanism)) {
      throw refused(`it offers only ${mechanisms.join(', ')}`)
    }
    const mechanism = binds ? scramPlusMechanism : scramMechanism
    this.#scram = new ScramClient({
      password: await this.#password(),
      mechanism,
      channelBinding: binds ? endPoint : null,
      couldBind: bindable && !binds,
      keys,
    })
    this.#state = 'scram_first'
    const first = this.#scram.first()
    return written((writer) => encodeSaslInitialResponse(writer, mechanism, first))
  }

  async #continueScram(data: Buffer): Promise<Buffer> {
    if (this.#state !== 'scram_first' || this.#scram === null)
      throw refused('it sent SASL out of order')
    const final = await this.#scram.next(data)
    this.#state = 'scram_final'
    return written((writer) => encodeSaslResponse(writer, final))
  }

  #verifyScram(data: Buffer): null {
    if (this.#state !== 'scram_final' || this.#scram === null)
      throw refused('it sent SASL out of order')
    if (!this.#scram.verify(data)) {
      throw refused('it does not know the password that it checks, so it is not the real server')
    }
    this.#state = 'verified'
    return null
  }

  #expectOpen(): void {
    if (this.#state !== 'open') throw refused('it asks for a second method')
  }

  async #password(): Promise<string> {
    const { secret } = this.#options.role
    if (secret === null) {
      throw refused(
        'it asks for a password and the role has none',
        'Give the role password_env, password_file or password_command in the configuration.',
      )
    }
    return secret.read()
  }
}

function md5(data: Buffer): string {
  return createHash('md5').update(data).digest('hex')
}

function refused(reason: string, hint?: string): ProxyError {
  return new ProxyError('upstream_rejected', 'regate could not log in to the upstream server', {
    detail: `The server cannot be used: ${reason}.`,
    ...(hint === undefined ? {} : { hint }),
  })
}
