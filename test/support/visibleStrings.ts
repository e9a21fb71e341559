import ts from "typescript";

/** Sentences of a page's source that a person sees and that are not handed to `t`. */
export interface VisibleString {
  start: number;
  end: number;
  line: number;
  text: string;
  node: ts.StringLiteralLike | ts.TemplateExpression;
}

/** Functions and properties whose strings the browser reads, not a person. */
const machineCalls =
  /^(t|querySelector|querySelectorAll|addEventListener|removeEventListener|getAttribute|closest|matches|test|startsWith|endsWith|split|replace|replaceAll|includes|indexOf|getPropertyValue|createElement|lookupTable|warn|error|Error|request|choice|flag|set|toggle|getContext|RegExp|dispatchEvent|CustomEvent)$/;
const machineProperties =
  /^(class|role|type|kind|key|mime|encoding|style|font|selector|id|href|name|event|borderDash|family|aria-roledescription|data-[\w-]+)$/;

/** Strings with a capital in front, or of several words, outside of code's own vocabulary. */
export function untranslatedStrings(fileName: string, source: string): VisibleString[] {
  const file = ts.createSourceFile(fileName, source, ts.ScriptTarget.Latest, true);
  const found: VisibleString[] = [];
  const visit = (node: ts.Node): void => {
    if (ts.isImportDeclaration(node) || ts.isExportDeclaration(node) || ts.isTypeNode(node)) return;
    if ((ts.isStringLiteralLike(node) || ts.isTemplateExpression(node)) && isVisible(node)) {
      const text = wordsOf(node);
      const { line } = file.getLineAndCharacterOfPosition(node.getStart());
      found.push({ start: node.getStart(), end: node.getEnd(), line: line + 1, text, node });
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return found;
}

function isVisible(node: ts.StringLiteralLike | ts.TemplateExpression): boolean {
  const text = wordsOf(node);
  if (!/^[A-Z][a-z]+|[A-Za-z]{2,}[,:]? [A-Za-z(]/.test(text.trim())) return false;
  let child: ts.Node = node;
  let parent: ts.Node = node.parent;
  while (ts.isConditionalExpression(parent) || ts.isParenthesizedExpression(parent))
    [child, parent] = [parent, parent.parent];
  if (ts.isBinaryExpression(parent) && /===|!==|\bin\b/.test(parent.operatorToken.getText())) return false;
  if (ts.isCaseClause(parent) || ts.isElementAccessExpression(parent)) return false;
  if (ts.isPropertyAssignment(parent))
    return parent.name !== child && !machineProperties.test(parent.name.getText().replaceAll('"', ""));
  if (ts.isCallExpression(parent) || ts.isNewExpression(parent)) {
    const callee = parent.expression;
    const name = ts.isPropertyAccessExpression(callee) ? callee.name.text : callee.getText();
    if (machineCalls.test(name)) return false;
    const index = parent.arguments?.indexOf(child as ts.Expression) ?? -1;
    return !(index === 0 && /^(element|customElement|setAttribute|Figure)$/.test(name));
  }
  return true;
}

function wordsOf(node: ts.StringLiteralLike | ts.TemplateExpression): string {
  if (!ts.isTemplateExpression(node)) return node.text;
  return node.head.text + node.templateSpans.map(({ literal }, i) => `{${i}}${literal.text}`).join("");
}
