/**
 * Certificates for tests, made by the system's openssl: a CA, servers, clients, a revocation list.
 * In a directory of their own that `remove()` deletes.
 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Paths of a certificate and its key. */
export interface Pair {
  readonly cert: string
  readonly key: string
}

/** A certificate authority with a directory. */
export class TestAuthority {
  readonly directory: string
  readonly ca: string
  readonly #caKey: string
  #serial = 1

  constructor(name = 'regate test CA') {
    this.directory = mkdtempSync(join(tmpdir(), 'regate-ca-'))
    this.ca = join(this.directory, 'ca.crt')
    this.#caKey = join(this.directory, 'ca.key')
    this.#openssl(
      [
        'req',
        '-x509',
        '-new',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:prime256v1',
        '-nodes',
      ],
      ['-keyout', this.#caKey, '-out', this.ca, '-days', '2', '-subj', `/CN=${name}`],
    )
    writeFileSync(join(this.directory, 'index.txt'), '')
    writeFileSync(join(this.directory, 'crlnumber'), '01\n')
    writeFileSync(
      join(this.directory, 'ca.cnf'),
      `[ca]\ndefault_ca = d\n[d]\ndatabase = ${this.directory}/index.txt\ncrlnumber = ${this.directory}/crlnumber\ndefault_md = sha256\ndefault_crl_days = 2\n`,
    )
  }

  /** A certificate signed by the CA: `subject` as `/CN=…`, `names` as subjectAltName values. */
  issue(
    file: string,
    subject: string,
    names: readonly string[] = [],
    options: { readonly days?: number; readonly algorithm?: 'ec' | 'rsa' | 'ed25519' } = {},
  ): Pair {
    const cert = join(this.directory, `${file}.crt`)
    const key = join(this.directory, `${file}.key`)
    const request = join(this.directory, `${file}.csr`)
    const extensions = join(this.directory, `${file}.ext`)
    const algorithm = options.algorithm ?? 'ec'
    const parameters = {
      ec: ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1'],
      rsa: ['-newkey', 'rsa:2048'],
      ed25519: ['-newkey', 'ed25519'],
    }[algorithm]
    this.#openssl(
      ['req', '-new', ...parameters, '-nodes', '-keyout', key, '-out', request],
      ['-subj', subject],
    )
    writeFileSync(
      extensions,
      `basicConstraints=CA:FALSE\n${names.length === 0 ? '' : `subjectAltName=${names.join(',')}\n`}`,
    )
    this.#openssl(
      ['x509', '-req', '-in', request, '-CA', this.ca, '-CAkey', this.#caKey, '-out', cert],
      [
        '-days',
        String(options.days ?? 2),
        '-extfile',
        extensions,
        '-set_serial',
        `${++this.#serial}`,
      ],
    )
    return { cert, key }
  }

  /** A revocation list with these certificates. */
  revoke(...certificates: readonly string[]): string {
    const config = join(this.directory, 'ca.cnf')
    const crl = join(this.directory, `crl-${++this.#serial}.pem`)
    const base = ['ca', '-config', config, '-keyfile', this.#caKey, '-cert', this.ca]
    for (const certificate of certificates) this.#openssl(base, ['-revoke', certificate])
    this.#openssl(base, ['-gencrl', '-out', crl])
    return crl
  }

  read(path: string): string {
    return readFileSync(path, 'utf8')
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true })
  }

  #openssl(...args: readonly (readonly string[])[]): void {
    execFileSync('openssl', args.flat(), { stdio: ['ignore', 'ignore', 'pipe'] })
  }
}
