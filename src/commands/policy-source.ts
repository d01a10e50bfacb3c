/**
 * From `policy:` of the configuration to the options of the policy keeper.
 */
import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import {
  readSecret,
  type BundleConfiguration,
  type PolicyConfiguration,
  type SecretSource,
  type ServiceConfiguration,
  type SigningConfiguration,
} from '../config/config.ts'
import type { BundleSource, KeeperOptions, ServiceOptions } from '../control/control.ts'
import type { Limits } from '../core/core.ts'
import type { SigningOptions } from '../policy/policy.ts'
import type { Environment } from './wiring.ts'

export interface PolicySourceOptions {
  readonly limits: Limits
  readonly environment: Environment
}

/** Everything but who is told; PEM files and signing keys are read. */
export async function keeperOptions(
  policy: Pick<PolicyConfiguration, 'bundle' | 'data' | 'opa'>,
  options: PolicySourceOptions,
): Promise<Omit<KeeperOptions, 'onPolicy' | 'onStatus' | 'clock'>> {
  const { limits, environment } = options
  return {
    name: 'regate',
    source: await bundleSource(policy.bundle, environment),
    dataFiles: policy.data,
    limits,
    opa: { env: environment, ...(policy.opa === null ? {} : { path: policy.opa }) },
    cacheDirectory: bundleCache(environment),
  }
}

/** Where bundles that OPA has built are kept: the user's cache directory. */
export function bundleCache(environment: Environment): string {
  const base = environment['XDG_CACHE_HOME'] ?? join(homedir(), '.cache')
  return join(base, 'regate', 'bundles')
}

async function bundleSource(
  bundle: BundleConfiguration,
  environment: Environment,
): Promise<BundleSource> {
  if (bundle.kind === 'path') return bundle
  return {
    kind: 'remote',
    service: await serviceOptions(bundle.service, environment),
    resource: bundle.resource,
    polling: bundle.polling,
    persist: bundle.persist,
    signing: bundle.signing === null ? null : await signingOf(bundle.signing, environment),
  }
}

/** A service with its PEM files read and its token as a source. */
export async function serviceOptions(
  service: ServiceConfiguration,
  environment: Environment,
): Promise<ServiceOptions> {
  const read = async (path: string | null): Promise<string | null> =>
    path === null ? null : await readFile(path, 'utf8')
  return {
    ...{ url: service.url, headers: service.headers },
    token: tokenOf(service.token, environment),
    ca: await read(service.ca),
    cert: await read(service.cert),
    key: await read(service.key),
  }
}

function tokenOf(
  source: SecretSource | null,
  environment: Environment,
): (() => Promise<string>) | null {
  return source === null ? null : () => readSecret(source, environment)
}

async function signingOf(
  signing: SigningConfiguration,
  environment: Environment,
): Promise<SigningOptions> {
  const { keyId, scope, algorithm, publicKey, secret } = signing
  const key =
    secret !== null
      ? await readSecret(secret, environment)
      : await readFile(publicKey ?? '', 'utf8')
  const name = keyId ?? 'regate'
  return {
    keyId: name,
    ...(scope === null ? {} : { scope }),
    keys: { [name]: { algorithm, key } },
  }
}
