// Elements. What comes from the server becomes text, never markup: nothing here parses a string.

const SVG = "http://www.w3.org/2000/svg";

function fill(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export function h(tag, attributes, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

export function s(tag, attributes, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

export const $ = (id) => document.getElementById(id);

export function say(node, text) {
  const words = String(text);
  if (node.textContent !== words) node.textContent = words;
}

export function put(node, name, value) {
  const words = String(value);
  if (node.getAttribute(name) !== words) node.setAttribute(name, words);
}

// A name of the user's, kept from changing the direction of what is around it.
export const name = (text) => h("bdi", {}, text);
