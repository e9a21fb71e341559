/** What controls.ts builds pages from. Two libraries have them; a flag of the build chooses (scripts/pageBundle.mjs). */

/** What we use of the components beyond HTMLElement. */
export type Valued = HTMLElement & { value: string; disabled: boolean };
export type Checkable = HTMLElement & { checked: boolean; disabled: boolean };

export interface Components {
  /** Defines the elements; called once before any is made. */
  register: () => void;
  button: (label: string, options: { primary: boolean; ariaLabel: string | null }) => HTMLElement;
  /** Its `value` is that of the chosen option; "change" tells of another one. */
  dropdown: (label: string) => Valued;
  option: (value: number, label: string) => HTMLElement;
  /** "change" tells of a click. */
  checkbox: (label: string) => Checkable;
  /** "input" tells of every key. */
  textField: (label: string, placeholder: string) => Valued;
  progressRing: (label: string) => HTMLElement;
}
