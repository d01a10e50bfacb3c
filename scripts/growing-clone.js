/**
 * ESLint rule: an object literal that begins with a spread may change members of what it clones, not add
 * any. V8 of Node 20 makes a hidden class of its own, old from birth, for every clone that grows: a
 * microsecond, kilobytes, and a shape that no inline cache knows (docs/decisions/performance.md). Put the
 * new members in front of the spread, where nothing of the kind happens.
 */

export const growingClone = {
  meta: {
    type: 'problem',
    schema: [],
    messages: {
      grows:
        'This clone gets new members ({{names}}): name them in front of the spread, where nothing that it brings is of that name.',
    },
  },
  create(context) {
    const services = context.sourceCode.parserServices
    return {
      ObjectExpression(node) {
        const [first, ...others] = node.properties
        if (first?.type !== 'SpreadElement' || others.length === 0) return
        const type = services.getTypeAtLocation(first.argument)
        // Any name may be there already.
        if (type.getStringIndexType() !== undefined) return
        const cloned = new Set(type.getProperties().map(({ name }) => name))
        const names = others
          .flatMap((member) =>
            member.type === 'SpreadElement'
              ? propertyNames(member.argument)
              : [member.computed ? '[…]' : (member.key.name ?? String(member.key.value))],
          )
          .filter((name) => !cloned.has(name))
        if (names.length > 0) {
          context.report({ node, messageId: 'grows', data: { names: names.join(', ') } })
        }
      },
    }

    function propertyNames(expression) {
      const type = services.getTypeAtLocation(expression)
      const arms = type.isUnion() ? type.types : [type]
      return arms.flatMap((arm) => arm.getProperties().map(({ name }) => name))
    }
  },
}
