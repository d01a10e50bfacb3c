/**
 * Authentication messages (B), all of them: one type byte, the kind is in the first Int32.
 * What the answer ('p') means depends on which of these came before; see frontend.ts.
 *
 * https://www.postgresql.org/docs/18/protocol-message-formats.html, AUTH_REQ_… in
 * src/include/libpq/protocol.h.
 */
import { assertNever } from '../core/core.ts'
import type { FrameView } from './frames.ts'
import { authenticationCodes, backendTypes } from './messages.ts'
import { BodyReader } from './reader.ts'
import type { ByteWriter } from './writer.ts'

/** One Authentication message. Buffers are views when decoded: valid as long as the frame. */
export type Authentication =
  | { readonly kind: 'ok' }
  | { readonly kind: 'kerberos_v5' }
  | { readonly kind: 'cleartext_password' }
  | { readonly kind: 'md5_password'; readonly salt: Buffer }
  | { readonly kind: 'gss' }
  | { readonly kind: 'gss_continue'; readonly data: Buffer }
  | { readonly kind: 'sspi' }
  | { readonly kind: 'sasl'; readonly mechanisms: readonly string[] }
  | { readonly kind: 'sasl_continue'; readonly data: Buffer }
  | { readonly kind: 'sasl_final'; readonly data: Buffer }

/** Authentication (B). A code that is not known is a protocol violation. */
export function decodeAuthentication(view: FrameView): Authentication {
  const body = BodyReader.of('Authentication', view)
  const authentication = decodeKind(body)
  body.finish()
  return authentication
}

function decodeKind(body: BodyReader): Authentication {
  const code = body.i32()
  switch (code) {
    case authenticationCodes.Ok:
      return { kind: 'ok' }
    case authenticationCodes.KerberosV5:
      return { kind: 'kerberos_v5' }
    case authenticationCodes.CleartextPassword:
      return { kind: 'cleartext_password' }
    case authenticationCodes.MD5Password:
      return { kind: 'md5_password', salt: body.bytesView(4) }
    case authenticationCodes.GSS:
      return { kind: 'gss' }
    case authenticationCodes.GSSContinue:
      return { kind: 'gss_continue', data: body.bytesView(body.remainingBytes) }
    case authenticationCodes.SSPI:
      return { kind: 'sspi' }
    case authenticationCodes.SASL:
      return { kind: 'sasl', mechanisms: mechanisms(body) }
    case authenticationCodes.SASLContinue:
      return { kind: 'sasl_continue', data: body.bytesView(body.remainingBytes) }
    case authenticationCodes.SASLFinal:
      return { kind: 'sasl_final', data: body.bytesView(body.remainingBytes) }
    default:
      return body.refuse(`asks for the unknown method ${code}`)
  }
}

/** Names in order of preference, ended by an empty one. */
function mechanisms(body: BodyReader): readonly string[] {
  const names: string[] = []
  for (;;) {
    const name = body.displayString()
    if (name === '') return names
    names.push(name)
  }
}

/** Authentication (B). */
export function encodeAuthentication(writer: ByteWriter, message: Authentication): void {
  writer.begin(backendTypes.Authentication)
  switch (message.kind) {
    case 'ok':
      writer.i32(authenticationCodes.Ok)
      break
    case 'kerberos_v5':
      writer.i32(authenticationCodes.KerberosV5)
      break
    case 'cleartext_password':
      writer.i32(authenticationCodes.CleartextPassword)
      break
    case 'md5_password':
      writer.i32(authenticationCodes.MD5Password)
      writer.bytes(message.salt)
      break
    case 'gss':
      writer.i32(authenticationCodes.GSS)
      break
    case 'gss_continue':
      writer.i32(authenticationCodes.GSSContinue)
      writer.bytes(message.data)
      break
    case 'sspi':
      writer.i32(authenticationCodes.SSPI)
      break
    case 'sasl':
      writer.i32(authenticationCodes.SASL)
      for (const name of message.mechanisms) writer.cstring(name)
      writer.u8(0)
      break
    case 'sasl_continue':
      writer.i32(authenticationCodes.SASLContinue)
      writer.bytes(message.data)
      break
    case 'sasl_final':
      writer.i32(authenticationCodes.SASLFinal)
      writer.bytes(message.data)
      break
    default:
      assertNever(message)
  }
  writer.end()
}
