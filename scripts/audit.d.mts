export interface AuditAnswer {
  vulnerabilities: Record<
    string,
    { name: string; severity: string; nodes: string[]; via: (string | { title: string })[] }
  >;
}
export function findingsIn(answer: AuditAnswer, folders: string[]): string[];
