import ts from "typescript";

/**
 * The types that the declarations of some modules mention and that none of the modules exports:
 * `Name in file.d.ts`.
 *
 * @param isOwn - true for a file of the package
 */
export function forgottenTypes(
  program: ts.Program,
  modules: readonly string[],
  isOwn: (path: string) => boolean,
): string[] {
  const checker = program.getTypeChecker();
  const exported = new Set(
    modules.flatMap((path) => {
      const file = program.getSourceFile(path);
      const symbol = file && checker.getSymbolAtLocation(file);
      if (symbol === undefined) throw new Error(`There is no module ${path}`);
      return checker.getExportsOfModule(symbol).map((each) => resolved(checker, each));
    }),
  );
  const mentioned = [...exported].flatMap((symbol) =>
    (symbol.declarations ?? []).flatMap((declaration) => namesIn(declaration)),
  );
  const forgotten = mentioned.flatMap((name) => {
    const symbol = checker.getSymbolAtLocation(name);
    const type = symbol && resolved(checker, symbol);
    const declaration = type?.declarations?.[0];
    if (type === undefined || declaration === undefined || exported.has(type)) return [];
    const file = declaration.getSourceFile().fileName;
    if (ts.isTypeParameterDeclaration(declaration) || !isOwn(file)) return [];
    return [`${type.name} in ${name.getSourceFile().fileName.replace(/^.*\/dist\//, "")}`];
  });
  return [...new Set(forgotten)];
}

function resolved(checker: ts.TypeChecker, symbol: ts.Symbol): ts.Symbol {
  return symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
}

/** The names of types that a declaration mentions. */
function namesIn(node: ts.Node): ts.Node[] {
  const own = ts.isTypeReferenceNode(node)
    ? [ts.isQualifiedName(node.typeName) ? node.typeName.right : node.typeName]
    : ts.isExpressionWithTypeArguments(node)
      ? [node.expression]
      : ts.isImportTypeNode(node) && node.qualifier !== undefined
        ? [node.qualifier]
        : [];
  const inside: ts.Node[] = [];
  ts.forEachChild(node, (child) => {
    inside.push(...namesIn(child));
  });
  return [...own, ...inside];
}
