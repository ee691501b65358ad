// Calls of the console's own: JSON there, JSON back.

const ROOT = "/console/";

/**
 * Posts a body, or gets where there is none.
 * @throws {Error} with a sentence to show.
 */
export async function call(path, body, signal) {
  const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body), signal };
  let response, told;
  try {
    response = await fetch(ROOT + path, body ? options : { signal });
    told = await response.json();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("localvertex does not answer. Start it again with `localvertex start`.");
  }
  if (!response.ok) throw new Error(told.error?.message ?? `The console answered ${response.status}.`);
  return told;
}
