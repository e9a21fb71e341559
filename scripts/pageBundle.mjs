// How a page is bundled: what ships and what the tests open are built alike.
import path from "node:path";

/** Libraries of buttons, dropdowns and the like, by the file that names them. */
export const componentLibraries = ["toolkit", "elements"];

/** @param library whose components the pages are built from */
export const pageBundle = (library = "toolkit") => ({
  bundle: true,
  platform: "browser",
  target: "es2022",
  format: "iife",
  loader: { ".css": "text" },
  logLevel: "warning",
  plugins: library === "toolkit" ? [] : [componentsOf(library)],
});

const componentsOf = (library) => {
  if (!componentLibraries.includes(library))
    throw new Error(`There are no components "${library}"; choose ${componentLibraries.join(" or ")}`);
  return {
    name: "components",
    setup({ onResolve }) {
      onResolve({ filter: /^\.\/components\/toolkit$/ }, ({ resolveDir }) => ({
        path: path.join(resolveDir, `components/${library}.ts`),
      }));
    },
  };
};
